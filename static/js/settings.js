// What the script adds to the pages of settings: Escape closes what was unfolded; who was logged out logs in again.

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const open = event.target.closest?.("details[open]");
  if (!open) return;
  open.open = false;
  open.querySelector("summary").focus();
});

// What asks again and again is sent to the log-in page one day. That is a page of its own, and no part of this one.
document.addEventListener("htmx:before:response", (event) => {
  const { raw } = event.detail.ctx.response;
  if (!raw.redirected) return;
  event.preventDefault();
  location.reload();
});
