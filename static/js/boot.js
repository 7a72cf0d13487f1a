// What must be known before the first paint, so that nothing flashes: the colours, and whether the sidebar is closed.
// The only script that blocks. Admin keeps its colours under the same name, so one switch serves both.

(() => {
  const root = document.documentElement;

  function stored(name) {
    try {
      return localStorage.getItem(name);
    } catch {
      return null; // Storage may be forbidden. The defaults do.
    }
  }

  function show() {
    const theme = stored("theme") ?? "auto";
    root.dataset.theme = theme;
    for (const button of document.querySelectorAll("[data-theme-choice]")) {
      button.setAttribute("aria-pressed", String(button.dataset.themeChoice === theme));
    }
  }

  root.classList.add("js");
  if (stored("sidebar") === "closed") root.dataset.sidebar = "closed";
  show();
  document.addEventListener("DOMContentLoaded", show);
  addEventListener("storage", show);
  document.addEventListener("click", (event) => {
    const choice = event.target.closest?.("[data-theme-choice]")?.dataset.themeChoice;
    if (!choice) return;
    try {
      localStorage.setItem("theme", choice);
    } catch {
      // Then it holds for this page only.
    }
    show();
    root.dataset.theme = choice;
  });
})();
