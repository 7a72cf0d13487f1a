// What arrives from the server, next to what the person is doing: fragments update in place, what the person opened
// stays open, a lost connection shows, and a screen reader hears the start and the answer instead of every word.

const opened = new Map(); // id of a <details> → whether the person wants it open

document.addEventListener("click", (event) => {
  const details = event.target.closest?.("summary")?.parentElement;
  if (details?.id) opened.set(details.id, !details.open);
});

// A list of steps is fetched when it is opened. Folding it must not fetch.
document.addEventListener(
  "toggle",
  (event) => {
    if (event.target.matches?.("details[hx-get]") && !event.target.open) event.stopImmediatePropagation();
  },
  true,
);

let morph;

htmx.registerExtension("agentsite", {
  init(api) {
    morph = api.morph;
  },

  htmx_before_morph_attr(element, { attrName, newValue }) {
    if (attrName === "open") return !opened.has(element.id);
    // The server does not know which page a fragment of the sidebar lands on.
    return !(attrName === "aria-current" && newValue === null);
  },

  htmx_before_morph_node(element, { newNode }) {
    // A finished task comes with an empty list. Who is reading the steps keeps them.
    const reading = element.matches?.(".steps") && opened.get(element.parentElement.id);
    return !(reading && !newNode.children.length);
  },

  // hx-swap="upsert": an element that is there by its id is updated in place, a new one goes in by its data-seq, or last.
  handle_swap(style, target, fragment) {
    if (style !== "upsert") return false;
    return [...fragment.children].map((element) => {
      const existing = element.id && document.getElementById(element.id);
      if (existing) {
        const alone = new DocumentFragment();
        alone.append(element);
        morph(existing, alone, false);
        return existing;
      }
      const later = [...target.children].find((child) => Number(child.dataset.seq) > Number(element.dataset.seq));
      target.insertBefore(element, later ?? null);
      return element;
    });
  },
});

// --- Messages of the socket -----------------------------------------------------------------------------------------

// htmx looks for the targets of all pieces of a message before it puts in the first. A piece may be meant for what
// another brings (a turn, then its text), so they go in one after the other.
document.addEventListener("htmx:before:ws:message", (event) => {
  const { text } = event.detail.message;
  event.preventDefault();
  for (const piece of text.split(/(?<=<\/hx-partial>)/)) {
    htmx.swap({ sourceElement: event.target, target: event.target, swap: "none ignoreTitle:true", text: piece });
  }
});

document.addEventListener("htmx:before:swap", ({ detail }) => {
  for (const { fragment, swapSpec } of detail.tasks) {
    if (swapSpec?.style !== "outerMorph") continue;
    // The line break at the end of a template would stay beside the element, one more with every update.
    for (const node of [...fragment.childNodes]) if (node.nodeType === Node.TEXT_NODE) node.remove();
  }
});

document.addEventListener("htmx:after:settle", ({ target }) => {
  if (target.id === "title") document.title = `${target.textContent.trim()} · AgentSite`;
});

// --- The connection: shown only when it has been away for two seconds -----------------------------------------------

const line = document.getElementById("connection");
const final = {
  4401: "You are logged out. Reload the page to log in again.",
  4403: "You can no longer see this. Reload the page.",
  4404: "This conversation is gone. Reload the page.",
};
let connected = true; // Until we hear otherwise.
let over = false;
let away;

function showConnection() {
  if (over) return;
  if (connected || document.hidden) {
    clearTimeout(away);
    away = undefined;
    line.hidden = true;
  } else {
    away ??= setTimeout(() => {
      line.textContent = "Reconnecting…";
      line.hidden = false;
    }, 2000);
  }
}

document.addEventListener("htmx:after:ws:connection", () => {
  connected = true;
  showConnection();
});

document.addEventListener("htmx:ws:close", ({ detail }) => {
  connected = false;
  showConnection();
  if (!final[detail.code]) return;
  over = true;
  clearTimeout(away);
  line.textContent = final[detail.code];
  line.hidden = false;
});

document.addEventListener("htmx:before:ws:connection", (event) => {
  if (over) event.preventDefault();
});

document.addEventListener("visibilitychange", showConnection);

// --- Announcements --------------------------------------------------------------------------------------------------

const announcer = document.getElementById("announcer");
const asked = new Set([...document.querySelectorAll(".decision")].map((card) => card.id));
const working = new Set([...document.querySelectorAll(".task[data-active]")].map((task) => task.id));

function announce(task) {
  if ("active" in task.dataset) {
    if (!working.has(task.id)) announcer.textContent = "Working.";
    working.add(task.id);
  } else if (working.delete(task.id)) {
    const parts = [...task.querySelectorAll(".answer, .failure-reason, .stop-note")];
    announcer.textContent = parts.map((part) => part.textContent.trim()).join(" ").slice(0, 3000);
  }
}

function announceCards() {
  for (const card of document.querySelectorAll(".decision")) {
    if (asked.has(card.id)) continue;
    asked.add(card.id);
    announcer.textContent = `Waiting for you: ${card.querySelector("h3").textContent.trim()}`;
  }
}

document.addEventListener("htmx:after:settle", ({ detail }) => {
  announceCards();
  for (const node of detail.newContent) {
    if (!(node instanceof Element)) continue;
    if (node.matches(".task")) announce(node);
    else node.querySelectorAll(".task").forEach(announce);
  }
});

// --- Time that passes -----------------------------------------------------------------------------------------------

function tick() {
  for (const time of document.querySelectorAll("time[data-since]")) {
    const seconds = Math.max(0, Math.floor((Date.now() - Date.parse(time.dataset.since)) / 1000));
    const text = seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} m ${seconds % 60} s`;
    if (time.textContent !== text) time.textContent = text;
  }
}

/** Times of day by the person's own clock, written as the server writes them; with the date where that is not today's.
 *  What comes soon is counted down to in its last two minutes. */
function tellClocks() {
  for (const time of document.querySelectorAll("time[data-clock]")) {
    const when = new Date(time.dateTime);
    const left = Math.max(0, Math.ceil((when - Date.now()) / 1000));
    const today = when.toDateString() === new Date().toDateString();
    const timeStyle = "seconds" in time.dataset ? "medium" : "short";
    const format = { timeStyle, hourCycle: "h23", ...(today ? {} : { dateStyle: "medium" }) };
    const soon = "soon" in time.dataset;
    let text = `${soon ? "at " : ""}${when.toLocaleString([], format)}`;
    if (soon && left < 120) text = left ? `in ${left} s` : "now";
    if (time.textContent !== text) time.textContent = text;
  }
}

tick();
tellClocks();
setInterval(tick, 1000);
setInterval(tellClocks, 1000);
document.addEventListener("htmx:after:settle", ({ detail }) => {
  // What was repainted came without its time.
  if (detail.newContent.some((node) => node.querySelector?.("time[data-since]"))) tick();
  if (detail.newContent.some((node) => node.querySelector?.("time[data-clock]"))) tellClocks();
});

// --- Begin ----------------------------------------------------------------------------------------------------------

// Only now: nothing may arrive before the above is in place. And htmx looks over the page as soon as it is loaded itself,
// which can be before its extension is: then it has not seen this element yet.
const live = document.getElementById("live");
htmx.process(live);
live.dispatchEvent(new CustomEvent("live:ready"));

// Pages without code do not load what its cells need.
let cells = document.querySelector("[data-cells]")?.dataset.cells;

function meetCells() {
  if (!cells || !document.querySelector(".cell")) return;
  import(cells);
  cells = "";
}

meetCells();
document.addEventListener("htmx:after:settle", meetCells);
