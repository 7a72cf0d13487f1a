// The list of conversations: hide it, rename, pin and delete in it, search it.

const root = document.documentElement;
const sidebar = document.getElementById("sidebar");
const narrow = matchMedia("(max-width: 50rem)");

// --- Hide and show --------------------------------------------------------------------------------------------------

function toggleSidebar() {
  if (narrow.matches) {
    sidebar.togglePopover();
    return;
  }
  const closed = root.dataset.sidebar !== "closed";
  if (closed) root.dataset.sidebar = "closed";
  else delete root.dataset.sidebar;
  try {
    localStorage.setItem("sidebar", closed ? "closed" : "open");
  } catch {
    // Then it holds for this page only.
  }
}

// --- The menu of a conversation -------------------------------------------------------------------------------------

const menu = document.getElementById("conversation-menu");
let item; // the <li> whose menu is open

/** Post for a conversation; fragments in the answer are swapped in. Resolves to whether it worked. */
async function post(action, values = {}) {
  const url = `${item.querySelector("a").getAttribute("href")}${action}/`;
  const token = document.getElementById("act").elements.csrfmiddlewaretoken.value;
  let worked = false;
  await htmx.ajax("POST", url, {
    source: item,
    swap: "none ignoreTitle:true",
    values: { ...values, csrfmiddlewaretoken: token },
    fetch: async (...request) => {
      const response = await fetch(...request);
      worked = response.ok;
      return response;
    },
  });
  return worked;
}

async function remove() {
  const deleted = item;
  deleted.hidden = true;
  if (!(await post("delete"))) deleted.hidden = false;
}

function rename() {
  const renamed = item;
  const link = renamed.querySelector("a");
  const title = link.querySelector(".ellipsis");
  const input = document.createElement("input");
  input.value = title.textContent;
  input.maxLength = 200;
  input.setAttribute("aria-label", "Title of the conversation");
  renamed.setAttribute("hx-morph-skip", ""); // What arrives meanwhile must not take the field away.
  link.hidden = true;
  renamed.prepend(input);
  input.select();

  let finished = false; // Taking the field away blurs it, which would finish once more.
  async function finish(save) {
    if (finished) return;
    finished = true;
    const before = title.textContent;
    const value = input.value.trim();
    link.hidden = false;
    input.remove();
    renamed.removeAttribute("hx-morph-skip");
    if (!save || !value || value === before) return;
    title.textContent = value;
    item = renamed;
    if (!(await post("rename", { title: value }))) title.textContent = before;
  }
  input.addEventListener("keydown", (event) => {
    if (event.isComposing || event.keyCode === 229) return;
    if (event.key !== "Enter" && event.key !== "Escape") return;
    event.preventDefault();
    event.stopPropagation();
    finish(event.key === "Enter");
    link.focus();
  });
  input.addEventListener("blur", () => finish(true));
}

menu?.addEventListener("beforetoggle", (event) => {
  const button = item?.querySelector("[data-do='conversation-menu']");
  button?.setAttribute("aria-expanded", String(event.newState === "open"));
  if (event.newState !== "open" || !button) return;
  const { left, bottom, top } = button.getBoundingClientRect();
  const height = 240;
  menu.style.left = `${Math.max(8, Math.min(left, innerWidth - 240))}px`;
  menu.style.top = `${bottom + height < innerHeight ? bottom + 4 : top - height}px`;
  const address = item.querySelector("a").getAttribute("href");
  for (const link of menu.querySelectorAll("[data-file]")) link.href = `${address}${link.dataset.file}`;
  menu.querySelector("[data-do='pin'] span").textContent = "pinned" in item.dataset ? "Unpin" : "Pin";
});
menu?.addEventListener("toggle", (event) => {
  if (event.newState === "open") menu.querySelector("button").focus();
});

menu?.addEventListener("click", (event) => {
  if (event.target.closest("[data-file]")) menu.hidePopover();
});

// --- Search ---------------------------------------------------------------------------------------------------------

const search = document.getElementById("search");

function openSearch() {
  if (sidebar.matches(":popover-open")) sidebar.hidePopover();
  search.showModal();
  search.querySelector("input").select();
}

search?.addEventListener("keydown", (event) => {
  const results = [...search.querySelectorAll("a.result")];
  const at = results.indexOf(document.activeElement);
  if (event.key === "ArrowDown") results[Math.min(at + 1, results.length - 1)]?.focus();
  else if (event.key === "ArrowUp") (at > 0 ? results[at - 1] : search.querySelector("input")).focus();
  else if (event.key === "Enter" && at < 0 && results.length && !event.isComposing) results[0].click();
  else return;
  event.preventDefault();
});

// --- Who does what --------------------------------------------------------------------------------------------------

const actions = {
  sidebar: toggleSidebar,
  rename,
  pin: () => post("pin"),
  delete: remove,
  search: openSearch,
};

document.addEventListener("click", (event) => {
  const element = event.target.closest?.("[data-do]");
  const name = element?.dataset.do;
  if (name === "conversation-menu") item = element.closest("li");
  if (!actions[name] || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  if (menu.contains(element)) menu.hidePopover();
  actions[name]();
});

// The menu moves by arrows, as menus do.
menu?.addEventListener("keydown", (event) => {
  const items = [...menu.querySelectorAll("[role=menuitem]")];
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  items.at((items.indexOf(document.activeElement) + step) % items.length).focus();
});
