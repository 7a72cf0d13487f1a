// Writing and sending. Nothing written is lost: a draft is kept per conversation until the server has the message, and a
// message that fails comes back. Each carries a key, so that sending it twice makes one task.

const form = document.getElementById("composer");

function newKey() {
  // crypto.randomUUID exists on https and localhost only.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

function start() {
  const text = document.getElementById("text"); // (The suggestion cards share its name.)
  const key = form.elements.namedItem("key");
  const error = document.getElementById("composer-error");
  const touch = matchMedia("(hover: none) and (pointer: coarse)");
  const draft = `draft:${form.dataset.draft}`;
  const inPage = form.hasAttribute("hx-post");
  const chips = document.getElementById("chips"); // the files that go with it
  const pending = new Map(); // key → { text, turn, files }: sent, not yet answered
  let failed; // the text of the message that failed last

  // --- Draft ---

  function stored() {
    try {
      return localStorage.getItem(draft) ?? "";
    } catch {
      return ""; // No storage, no drafts.
    }
  }

  function keep() {
    try {
      if (text.value) localStorage.setItem(draft, text.value);
      else localStorage.removeItem(draft);
    } catch {
      // Full or forbidden: the text is still in the field.
    }
  }

  try {
    // The first message leaves its page. That we are on another one now shows that it arrived.
    const sent = sessionStorage.getItem("sent");
    if (sent && sent !== draft) localStorage.removeItem(sent);
    sessionStorage.removeItem("sent");
  } catch {
    // A draft too many does no harm.
  }
  // What comes back refused may be a suggestion: then the draft is something else.
  if (text.value.trim() !== stored().trim()) text.value = [text.value, stored()].filter(Boolean).join("\n");
  key.value = newKey();

  const grow = () => {
    if (CSS.supports("field-sizing", "content")) return;
    text.style.height = "auto";
    text.style.height = `${text.scrollHeight}px`;
  };
  text.addEventListener("input", () => {
    // An edited message is another one. (The failed one may have arrived after all.)
    if (failed !== undefined && text.value !== failed) {
      failed = undefined;
      key.value = newKey();
    }
    keep();
    grow();
  });
  grow();

  // --- Send ---

  text.addEventListener("keydown", (event) => {
    // While an input method composes, Enter picks a word. Safari says so by 229 only.
    if (event.key !== "Enter" || event.isComposing || event.keyCode === 229) return;
    const wanted = event.ctrlKey || event.metaKey || !(event.shiftKey || event.altKey || touch.matches);
    if (!wanted) return;
    event.preventDefault();
    if (text.value.trim()) form.requestSubmit();
  });

  form.addEventListener(
    "submit",
    (event) => {
      // A suggestion brings its own words (the last ones of a name count); what is half written stays.
      const suggested = event.submitter?.name === "text";
      if (!suggested && !text.value.trim()) {
        event.preventDefault();
        event.stopImmediatePropagation();
      } else if (chips.querySelector("progress")) {
        event.preventDefault();
        event.stopImmediatePropagation();
        form.dispatchEvent(new CustomEvent("files:awaited", { detail: event.submitter }));
      } else if (!inPage) {
        keep();
        if (suggested) return;
        try {
          sessionStorage.setItem("sent", draft);
        } catch {
          // The draft stays, which does no harm.
        }
      }
    },
    true,
  );
  addEventListener("pageshow", ({ persisted }) => {
    if (persisted) text.value = stored(); // Coming back by the browser's button shows the page as it was left.
  });

  function echo(words) {
    const turn = document.getElementById("pending-turn").content.firstElementChild.cloneNode(true);
    turn.querySelector(".bubble").textContent = words;
    document.getElementById("turns").append(turn);
    document.dispatchEvent(new CustomEvent("turn:sent"));
    return turn;
  }

  // Stop is in here too, and has requests of its own.
  function onOwn(name, listener) {
    form.addEventListener(name, (event) => event.target === form && listener(event));
  }

  onOwn("htmx:config:request", ({ detail }) => {
    const { body } = detail.ctx.request;
    const files = [...chips.children];
    for (const chip of files) chip.remove(); // Their names are in the request by now.
    pending.set(body.get("key"), { text: body.get("text"), turn: echo(body.get("text")), files });
    key.value = newKey();
    failed = undefined;
    error.textContent = "";
    text.value = "";
    grow();
  });

  function settle(ctx) {
    const sentKey = ctx.request.body.get("key");
    const message = pending.get(sentKey);
    pending.delete(sentKey);
    message?.turn.remove();
    return message && { ...message, key: sentKey };
  }

  function giveBack(message, sentence) {
    if (!message) return;
    chips.prepend(...message.files);
    if (!text.value) {
      key.value = message.key;
      failed = message.text;
    }
    text.value = text.value ? `${message.text}\n${text.value}` : message.text;
    keep();
    grow();
    if (sentence) error.textContent = sentence;
    text.focus();
  }

  onOwn("htmx:after:request", (event) => {
    const { ctx } = event.detail;
    const { status, raw } = ctx.response;
    const message = settle(ctx);
    if (raw.redirected) {
      // Only a lost log-in answers a message with another page.
      event.preventDefault();
      giveBack(message, "You are logged out. Log in again in another tab, then send this once more.");
    } else if (status === 422) {
      giveBack(message); // The answer brings its own sentence.
    } else if (status === 403) {
      giveBack(message, "Your log-in has changed. Reload the page; your text is kept.");
    } else if (status === 404) {
      giveBack(message, "This conversation is gone. Copy your text and start a new one.");
    } else if (status === 429) {
      giveBack(message, "That was too fast. Wait a moment, then send it again.");
    } else if (status >= 400) {
      giveBack(message, "The server had a problem. Your text is kept; send it again.");
    } else {
      keep();
    }
  });

  onOwn("htmx:error", ({ detail }) => {
    if (detail.ctx) giveBack(settle(detail.ctx), "There is no connection. Your text is kept; send it again.");
  });

  // The socket may be ahead of the answer to the request, which must not turn the page back then.
  onOwn("htmx:before:swap", ({ detail: { tasks } }) => {
    const turns = tasks.map(({ fragment }) => document.getElementById(fragment.querySelector?.(".turn")?.id));
    const shown = turns.find(Boolean);
    if (!shown) return;
    const stale = shown.querySelector("[data-active]") ? ["turns"] : ["turns", "composer-actions"];
    tasks.splice(0, tasks.length, ...tasks.filter(({ target }) => !stale.includes(target.id)));
  });

  // It may also bring the turn while the echo is still there. It is shown once.
  document.addEventListener("htmx:before:swap", ({ detail }) => {
    for (const { fragment } of detail.tasks) {
      const words = fragment.querySelector?.(".turn .bubble")?.textContent.trim();
      for (const message of pending.values()) if (message.text.trim() === words) message.turn.remove();
    }
  });

  // --- A message that waits goes back into the composer ---

  function put(words) {
    text.value = words;
    text.dispatchEvent(new Event("input"));
  }

  const takenBack = new WeakMap(); // button → the draft before, and with the words of the message

  document.addEventListener("click", ({ target }) => {
    const button = target.closest?.("[data-edit]");
    if (!button) return;
    // Here before it is gone there, and below a draft.
    const draft = text.value;
    put([draft, button.closest(".turn").querySelector(".said .bubble").textContent].filter(Boolean).join("\n"));
    takenBack.set(button, [draft, text.value]);
    text.focus();
  });

  document.addEventListener("htmx:after:request", ({ detail: { ctx } }) => {
    // Refused: it is being answered. (Then the button may be gone already, which is why this listens here.)
    const [draft, together] = takenBack.get(ctx.sourceElement) ?? [];
    if (ctx.response.status >= 400 && text.value === together) put(draft);
  });

  document.addEventListener("htmx:before:swap", ({ detail }) => {
    // Whoever was on a button of a message that goes away goes on here.
    const away = detail.tasks.filter(({ swapSpec }) => swapSpec?.style === "delete");
    if (away.some((task) => task.target?.matches?.(".turn") && task.target.contains(document.activeElement))) text.focus();
  });

  // --- The agent of a first message: its note and its suggestions ---

  const agent = form.elements.namedItem("agent");
  agent.addEventListener("change", () => {
    for (const card of document.querySelectorAll("[data-agent]")) card.hidden = card.dataset.agent !== agent.value;
    nameRetries();
  });

  // --- Files: what sends them is loaded with the first ---

  const attach = document.getElementById("attach");
  async function take(files) {
    if (!files.length) return;
    const { upload } = await import(attach.dataset.script);
    upload([...files]);
  }
  attach.addEventListener("change", () => {
    take([...attach.files]);
    attach.value = ""; // The same one can be chosen again.
  });
  text.addEventListener("paste", (event) => {
    // Who copies a table in an office program brings its text and a picture of it: the text is meant.
    if (!event.clipboardData.files.length || event.clipboardData.types.includes("text/plain")) return;
    event.preventDefault();
    take([...event.clipboardData.files]);
  });
  const brings = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!brings(event)) return;
    event.preventDefault(); // Else the browser opens the file.
    form.classList.add("wanted");
  });
  addEventListener("dragleave", (event) => event.relatedTarget || form.classList.remove("wanted"));
  addEventListener("drop", (event) => {
    if (!brings(event)) return;
    event.preventDefault();
    form.classList.remove("wanted");
    take([...event.dataTransfer.files]);
  });

  // --- Tasks to choose from ---

  const tasks = document.getElementById("tasks-link");
  agent.addEventListener("change", () => {
    const url = new URL(tasks.href);
    url.searchParams.set("agent", agent.value);
    tasks.href = url;
  });
  text.addEventListener("input", function load() {
    if (!text.value.startsWith("/")) return;
    text.removeEventListener("input", load);
    import(tasks.dataset.script);
  });

  // --- Who is asked when a message is tried again ---

  function nameRetries() {
    const title = agent.selectedOptions?.[0].textContent ?? form.querySelector(".agent-name").textContent;
    for (const button of document.querySelectorAll("[data-retry]")) {
      const label = button.dataset.retry === agent.value ? "Try again" : `Try again with ${title}`;
      const words = button.querySelector("span");
      if (words.textContent !== label) words.textContent = label;
      if (button.title) button.title = label;
    }
  }
  nameRetries();
  document.addEventListener("htmx:after:settle", nameRetries);
}

if (form) {
  start();
  // The first message leads to a page of its own. Who has a keyboard goes on writing there; a phone's would cover it.
  if (!form.hasAttribute("hx-post")) form.addEventListener("submit", () => sessionStorage.setItem("writing", "1"));
  else if (sessionStorage.getItem("writing") && matchMedia("(hover: hover)").matches)
    document.getElementById("text").focus({ preventScroll: true });
  if (form.hasAttribute("hx-post")) sessionStorage.removeItem("writing");
}
