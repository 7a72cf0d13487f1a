// Code cells: what one prints is followed to its end, and its code is edited with the keys of a notebook.

// --- Following: until the person scrolls up, and again from where they scroll down to the end --------------------------

const followed = new WeakSet();
const left = new WeakSet();
const last = new WeakMap(); // element → where it stood

document.addEventListener(
  "scroll",
  ({ target }) => {
    if (!(target instanceof Element) || !target.matches(".cell-output")) return;
    const before = last.get(target) ?? 0;
    if (target.scrollTop < before) left.add(target);
    else if (target.scrollHeight - target.scrollTop - target.clientHeight < 24) left.delete(target);
    last.set(target, target.scrollTop);
  },
  { capture: true, passive: true },
);

function follow() {
  for (const output of document.querySelectorAll(".cell-output")) {
    // The last words come with the end.
    const runs = output.closest("[data-status='started']");
    if ((!runs && !followed.has(output)) || left.has(output)) continue;
    if (runs) followed.add(output);
    else followed.delete(output);
    output.scrollTop = output.scrollHeight;
    last.set(output, output.scrollTop);
  }
}

follow();
document.addEventListener("htmx:after:settle", follow);

// --- Editing ----------------------------------------------------------------------------------------------------------

document.addEventListener(
  "toggle",
  ({ target }) => {
    if (target.matches?.(".cell-edit") && target.open) target.querySelector("textarea").focus();
  },
  true,
);

function close(details) {
  const summary = details.querySelector("summary");
  if (details.open) summary.click(); // As the person would: live.js remembers that.
  summary.focus();
}

document.addEventListener("reset", ({ target }) => target.parentElement?.matches(".cell-edit") && close(target.parentElement));

document.addEventListener(
  "keydown",
  (event) => {
    const details = event.target.closest?.(".cell-edit[open]");
    if (!details || event.isComposing || event.keyCode === 229) return;
    const runs = event.key === "Enter" && (event.ctrlKey || event.metaKey);
    if (!runs && event.key !== "Escape") return;
    event.preventDefault(); // Else Escape would stop a task.
    if (runs) details.querySelector("form").requestSubmit();
    else close(details); // What was typed is there when it is opened again.
  },
  true,
);
