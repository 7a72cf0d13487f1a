// A “/” at the beginning of an empty message offers the tasks that can be started. The list works by keyboard and touch,
// and gets shorter as one types. Choosing one leads to its form; without this script the link beside the agent does.
// composer.js loads it with the first “/”.

const form = document.getElementById("composer");

function start() {
  const text = document.getElementById("text");
  const list = document.getElementById("task-list");
  const link = document.getElementById("tasks-link");
  const agent = form.elements.namedItem("agent");
  const announcer = document.getElementById("announcer");
  let offered; // the agent for whom the list was fetched
  let chosen; // the option that Enter takes

  const typed = () => /^\/([\w-]*)$/.exec(text.value)?.[1].toLowerCase();
  const shown = () => [...list.children].filter((option) => !option.hidden);

  function choose(option) {
    chosen?.setAttribute("aria-selected", "false");
    chosen = option;
    chosen?.setAttribute("aria-selected", "true");
    chosen?.scrollIntoView({ block: "nearest" });
    if (chosen) text.setAttribute("aria-activedescendant", chosen.id);
    else text.removeAttribute("aria-activedescendant");
  }

  function close() {
    list.hidden = true;
    choose(undefined);
  }

  async function fetchList() {
    const wanted = agent.value;
    if (offered === wanted) return;
    const answer = await fetch(link.href, { headers: { "HX-Request": "true" } });
    if (!answer.ok || answer.redirected || wanted !== agent.value) return;
    list.innerHTML = await answer.text();
    offered = wanted;
  }

  async function offer() {
    if (typed() === undefined) return close();
    try {
      await fetchList();
    } catch {
      return; // There is no connection: it is tried again with the next letter.
    }
    const words = typed();
    if (words === undefined) return close();
    for (const option of list.children) {
      option.hidden = !option.dataset.words.split(/[\s-]+/).some((word) => word.startsWith(words)) && !option.dataset.words.startsWith(words);
    }
    const found = shown();
    if (list.hidden && found.length) announcer.textContent = "Choose a task with the arrow keys.";
    list.hidden = !found.length;
    choose(found.includes(chosen) ? chosen : found[0]);
  }

  function leave(option) {
    text.value = ""; // The draft was only the way here.
    text.dispatchEvent(new Event("input"));
    location.assign(option.href);
  }

  function take(event) {
    if (list.hidden || event.isComposing || event.keyCode === 229) return;
    const found = shown();
    const at = found.indexOf(chosen);
    if (event.key === "ArrowDown") choose(found[(at + 1) % found.length]);
    else if (event.key === "ArrowUp") choose(found.at(at - 1));
    else if (event.key === "Enter" && !event.shiftKey && chosen) leave(chosen);
    else if (event.key === "Escape") close();
    else return;
    event.preventDefault();
    event.stopImmediatePropagation(); // Else Enter would send it, and Escape stop a task.
  }

  // Before composer.js hears of it.
  form.addEventListener("keydown", (event) => event.target === text && take(event), true);
  text.addEventListener("input", offer);
  list.addEventListener("click", (event) => {
    const option = event.target.closest("[role=option]");
    if (!option || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    leave(option);
  });
  document.addEventListener("click", ({ target }) => form.contains(target) || close());

  text.setAttribute("aria-autocomplete", "list");
  text.setAttribute("aria-controls", list.id);
  offer(); // What was typed by now.
}

start();
