// What buttons and keys do: copy and download, notices, shortcuts.

// --- Forms that the socket brought: what it sends is for no page in particular, so it has no token --------------------

document.addEventListener("submit", ({ target }) => {
  const token = document.querySelector("#act [name=csrfmiddlewaretoken]");
  if (token && target.method === "post" && !target.elements.csrfmiddlewaretoken) target.append(token.cloneNode());
});

// --- Copy -----------------------------------------------------------------------------------------------------------

/** Put a text (or the promise of one) on the clipboard. */
async function copy(text) {
  try {
    // The promise goes in as it is: Safari allows writing only while the click is being handled.
    const blob = Promise.resolve(text).then((words) => new Blob([words], { type: "text/plain" }));
    await navigator.clipboard.write([new ClipboardItem({ "text/plain": blob })]);
  } catch {
    // Without https there is no clipboard API, only this.
    const field = document.createElement("textarea");
    field.value = await text;
    document.body.append(field);
    field.select();
    const copied = document.execCommand("copy");
    field.remove();
    if (!copied) throw new Error("The browser does not allow copying.");
  }
}

async function source(url) {
  const response = await fetch(url);
  if (!response.ok || response.redirected) throw new Error(`The answer could not be fetched (${response.status}).`);
  return response.text();
}

async function copyWith(button, text) {
  try {
    await copy(text);
  } catch {
    notify("That could not be copied.");
    return;
  }
  const use = button.querySelector("use");
  use.setAttribute("href", "#i-check");
  button.classList.add("done");
  document.getElementById("announcer").textContent = "Copied.";
  setTimeout(() => {
    use.setAttribute("href", "#i-copy");
    button.classList.remove("done");
  }, 1500);
}

// --- Code blocks ----------------------------------------------------------------------------------------------------

const endings = { python: "py", javascript: "js", typescript: "ts", bash: "sh", shell: "sh", rust: "rs", ruby: "rb", markdown: "md", text: "txt", "": "txt" };

function iconButton(action, icon, label) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "icon-button";
  button.dataset.do = action;
  button.title = label;
  button.setAttribute("aria-label", `${label} this code`);
  button.innerHTML = `<svg class="icon" aria-hidden="true"><use href="#i-${icon}"/></svg>`;
  return button;
}

/** Give the code blocks in an element their buttons; a block that is still being written waits. */
function equip(element) {
  for (const head of element.querySelectorAll(".code-head")) {
    if (head.querySelector("button") || head.closest(".open")) continue;
    head.append(iconButton("copy-code", "copy", "Copy"), iconButton("download-code", "download", "Download"));
  }
}

function code(button) {
  const block = button.closest(".code");
  return { text: block.querySelector("code").textContent, language: block.dataset.language ?? "" };
}

function download({ text, language }) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  link.download = `code.${endings[language] ?? (/^\w{1,8}$/.test(language) ? language : "txt")}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

equip(document);
document.addEventListener("htmx:after:settle", ({ detail }) => {
  for (const node of detail.newContent) if (node instanceof Element) equip(node.parentElement ?? node);
});

// --- Notices --------------------------------------------------------------------------------------------------------

const toasts = document.getElementById("toasts");

function expire(toast) {
  setTimeout(() => {
    // Who points at it or is in it is still deciding.
    if (toast.matches(":hover, :focus-within")) expire(toast);
    else toast.remove();
  }, 8000);
}

function notify(sentence) {
  const toast = document.createElement("div");
  toast.className = "toast";
  toast.append(Object.assign(document.createElement("span"), { textContent: sentence }));
  toasts.append(toast);
}

new MutationObserver((changes) => {
  for (const { addedNodes } of changes) for (const node of addedNodes) if (node instanceof Element) expire(node);
}).observe(toasts, { childList: true });
for (const toast of toasts.children) expire(toast);
toasts.addEventListener("htmx:finally:request", ({ target }) => target.closest(".toast")?.remove());

for (const name of ["htmx:response:error", "htmx:error"]) {
  document.addEventListener(name, ({ target, detail }) => {
    // The composer, and an answer with a sentence in it, say themselves what went wrong.
    if (target.id === "composer" || !detail.ctx || detail.ctx.text?.includes("<hx-partial")) return;
    notify(detail.error ? "There is no connection. Try again." : "That did not work. Reload the page and try again.");
  });
}

// --- Editing what was said --------------------------------------------------------------------------------------------

let cancelled; // id of the words whose form was closed

document.addEventListener(
  "keydown",
  (event) => {
    const form = event.target.closest?.(".editing");
    if (!form || event.isComposing || event.keyCode === 229) return;
    const saves = event.key === "Enter" && (event.ctrlKey || event.metaKey);
    if (!saves && event.key !== "Escape") return;
    event.preventDefault(); // Else Escape would stop a task.
    if (saves) form.requestSubmit();
    else form.querySelector("[data-cancel]").click();
  },
  true,
);

document.addEventListener("click", (event) => {
  if (event.target.closest?.("[data-cancel]")) cancelled = event.target.closest(".editing").id;
});

document.addEventListener("htmx:after:settle", () => {
  // Who closed the form is back where it was opened.
  const edit = cancelled && document.getElementById(cancelled)?.querySelector(":scope > .edit");
  if (edit) {
    edit.focus();
    cancelled = undefined;
  }
});

// --- Cards ------------------------------------------------------------------------------------------------------------

let decided = false; // The card that was answered takes the focus away with it.
document.addEventListener("submit", ({ target }) => (decided ||= target.matches(".decision")));
document.addEventListener("htmx:after:settle", () => {
  if (!decided || document.activeElement?.closest(".decision")) return;
  decided = false;
  if (document.activeElement !== document.body || !matchMedia("(hover: hover)").matches) return;
  // On no button: Enter must not answer the next one.
  const next = document.querySelector(".decision :is(summary, textarea, input:not([type='hidden']))");
  (next ?? document.getElementById("text"))?.focus({ preventScroll: !next });
});

// --- Shortcuts ------------------------------------------------------------------------------------------------------

const press = (selector) => [...document.querySelectorAll(selector)].at(-1)?.click();
const help = document.getElementById("shortcuts");
const shortcuts = {
  "mod+shift+o": () => press("[data-do='new']"),
  "mod+k": () => press("[data-do='search']"),
  "shift+escape": () => document.getElementById("text")?.focus(),
  "mod+shift+s": () => press("[data-do='sidebar']"),
  "mod+shift+c": () => press("[data-do='copy-answer']"),
  "mod+/": () => (help.open ? help.close() : help.showModal()),
  escape: () => press("#stop:not(:disabled)"),
};

document.addEventListener("keydown", (event) => {
  if (event.isComposing || event.keyCode === 229 || event.defaultPrevented || event.repeat) return;
  const parts = [(event.ctrlKey || event.metaKey) && "mod", event.shiftKey && "shift", event.key?.toLowerCase()];
  const name = parts.filter(Boolean).join("+").replace("mod+shift+/", "mod+/");
  if (!shortcuts[name]) return;
  const overlay = document.querySelector("dialog[open], :popover-open");
  if (name === "escape" && overlay) return; // It closes that.
  if (overlay?.localName === "dialog" && overlay !== help) return;
  event.preventDefault();
  shortcuts[name]();
});

const mac = /mac|iphone|ipad/i.test(navigator.userAgentData?.platform ?? navigator.platform);
for (const key of document.querySelectorAll("[data-mod]")) key.textContent = mac ? "⌘" : "Ctrl";
for (const key of document.querySelectorAll("[data-keys]")) key.textContent = `${mac ? "⌘" : "Ctrl"} ${key.dataset.keys}`;

// --- Clicks ---------------------------------------------------------------------------------------------------------

const actions = {
  "copy-answer": (button) => copyWith(button, source(button.dataset.source)),
  "copy-code": (button) => copyWith(button, code(button).text),
  "download-code": (button) => download(code(button)),
  dismiss: (button) => button.closest(".toast").remove(),
  help: () => {
    document.getElementById("person-menu").hidePopover();
    help.showModal();
  },
};

document.addEventListener("click", (event) => {
  const button = event.target.closest?.("[data-do]");
  actions[button?.dataset.do]?.(button);
});
