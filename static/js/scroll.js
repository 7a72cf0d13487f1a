// Where the page stands. It follows the bottom only while the person is there; any move upwards lets go, only moving
// down to the end or the arrow takes hold again. What is being read does not move when something above it changes.

const turns = document.getElementById("turns");
const root = document.scrollingElement;
const NEAR = 40; // px to the end within which scrolling down takes hold

function start() {
  const dock = document.querySelector(".dock");
  const button = document.getElementById("to-bottom");
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  let following = true;
  let room = 0; // px: the height kept free below the message just sent
  let last = 0; // px: where the page stood when it was looked at last

  const distance = () => root.scrollHeight - root.scrollTop - root.clientHeight;

  function toBottom(smooth = false) {
    following = true;
    root.scrollTo({ top: root.scrollHeight, behavior: smooth && !calm.matches ? "smooth" : "instant" });
  }

  function showButton() {
    if (distance() > 200) button.hidden = following;
    else if (distance() < 60) button.hidden = true;
  }

  function setRoom(height) {
    room = Math.max(0, height);
    turns.style.setProperty("--room", room ? `${room}px` : "auto");
  }

  addEventListener(
    "scroll",
    () => {
      if (root.scrollTop < last && distance() > 1) following = false;
      else if (root.scrollTop > last && distance() < NEAR) following = true;
      last = root.scrollTop;
      showButton();
    },
    { passive: true },
  );

  const release = () => {
    if (root.scrollHeight > root.clientHeight) following = false;
  };
  addEventListener("wheel", (event) => event.deltaY < 0 && release(), { passive: true });
  addEventListener("keydown", (event) => {
    if (event.target.matches?.("input, textarea, select")) return;
    if (["ArrowUp", "PageUp", "Home"].includes(event.key) || (event.key === " " && event.shiftKey)) release();
  });

  // Who opens a step wants to read it, not to see it pushed up by what comes below.
  turns.addEventListener("click", (event) => {
    if (event.target.closest("summary")) following = false;
  });

  // A page that becomes shorter is pushed up by the browser, and a swap may move it; that is nobody's wish. What a person
  // does arrives between frames and is told by a scroll event before the next layout, so all that is found here is ours.
  const observer = new ResizeObserver(() => {
    if (following) toBottom();
    last = root.scrollTop;
    showButton();
  });
  observer.observe(turns);
  observer.observe(dock);
  button.addEventListener("click", () => {
    toBottom(true);
    document.getElementById("text")?.focus({ preventScroll: true });
  });

  // The message just sent goes near the top, its answer fills the room below. A message that has to wait for a running
  // task stays under it instead: the person is still reading that one.
  document.addEventListener("turn:sent", () => {
    const busy = turns.querySelector(".task[data-active]");
    const margin = parseFloat(getComputedStyle(turns.lastElementChild).scrollMarginTop);
    const below = parseFloat(getComputedStyle(turns).paddingBottom) + dock.offsetHeight;
    setRoom(busy ? 0 : root.clientHeight - margin - below);
    toBottom(true);
  });

  // Steps fold when a task is over, older turns come in above: hold what is in view.
  const held = new WeakMap(); // swap → the element to hold, and where it was
  document.addEventListener("htmx:before:swap", ({ detail }) => {
    for (const { target } of detail.tasks) {
      const element = target?.id?.startsWith?.("task-")
        ? target.querySelector(".answer")
        : target?.id === "older" && target.nextElementSibling;
      // (An answer without a word is nowhere yet.)
      if (element && element.getClientRects().length) held.set(detail.ctx, { id: element.id, top: element.getBoundingClientRect().top });
    }
  });
  document.addEventListener("htmx:after:swap", ({ detail }) => {
    const { id, top } = held.get(detail.ctx) ?? {};
    const element = id && document.getElementById(id);
    const moved = () => element.getBoundingClientRect().top - top;
    // The page stays at its end when the free room shrinks by as much as the content above did.
    if (element && following && room) setRoom(room + Math.min(0, moved()));
    else if (element && Math.abs(moved()) > 1) root.scrollBy({ top: moved(), behavior: "instant" });
    last = root.scrollTop;
    watchOlder();
  });

  // Older turns come when their place is seen. Not before the page stands where it should: it begins at the top.
  const seen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      htmx.process(target); // A click that htmx does not know yet would leave the page.
      target.querySelector("a").click();
    }
  });
  function watchOlder() {
    const older = document.getElementById("older");
    if (older) seen.observe(older);
  }

  history.scrollRestoration = "manual";
  const linked = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
  if (linked) {
    following = false;
    linked.scrollIntoView();
  } else {
    toBottom();
  }
  watchOlder();
}

if (turns) start();
