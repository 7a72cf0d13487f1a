// Sends files to the server as they are chosen, one after the other, each with a chip that shows how far it is. What has
// arrived is a draft there, which the page shows also when it is loaded afresh. composer.js loads this with the first file.

const form = document.getElementById("composer");
const chips = document.getElementById("chips");
const error = document.getElementById("composer-error");
const announcer = document.getElementById("announcer");
const { url, most } = document.getElementById("attach").dataset;
const line = []; // { file, chip, request }: the first is being sent
let awaiting; // the button of a message that waits for its files

function chipOf(file) {
  const chip = document.createElement("li");
  chip.className = "chip";
  const name = document.createElement("span");
  name.className = "ellipsis";
  name.textContent = file.name;
  const progress = document.createElement("progress");
  progress.max = 1;
  progress.value = 0;
  progress.ariaLabel = `Uploading ${file.name}`;
  const stop = document.createElement("button");
  stop.type = "button";
  stop.className = "icon-button";
  stop.ariaLabel = `Do not upload ${file.name}`;
  stop.append(document.getElementById("chip-close").content.cloneNode(true));
  chip.append(name, progress, stop);
  return chip;
}

export function upload(files) {
  error.textContent = "";
  for (const file of files) {
    if (file.size > most * 1024 * 1024) {
      error.textContent = `“${file.name}” is larger than ${most} MB, the most that can be sent.`;
      continue;
    }
    const entry = { file, chip: chipOf(file) };
    entry.chip.querySelector("button").addEventListener("click", () => leave(entry));
    chips.append(entry.chip);
    line.push(entry);
    if (line.length === 1) send(entry);
  }
}

function send(entry) {
  const request = (entry.request = new XMLHttpRequest()); // fetch does not tell how far it is.
  request.open("POST", `${url}?name=${encodeURIComponent(entry.file.name)}`);
  request.setRequestHeader("Content-Type", "application/octet-stream");
  request.setRequestHeader("X-CSRFToken", form.elements.namedItem("csrfmiddlewaretoken").value);
  request.setRequestHeader("HX-Request", "true");
  request.upload.onprogress = (event) => {
    entry.chip.querySelector("progress").value = event.loaded / event.total;
  };
  request.onload = () => settle(entry, request);
  request.onerror = () => refuse(entry, "There is no connection. Attach it again.");
  request.send(entry.file);
}

function settle(entry, { status, responseText, responseURL }) {
  if (status === 422) return refuse(entry, responseText);
  if (status === 200 && !new URL(responseURL).pathname.endsWith("/upload/")) return refuse(entry, "You are logged out. Log in again, then attach it once more.");
  if (status === 413) return refuse(entry, `“${entry.file.name}” is larger than this site takes.`);
  if (status === 403) return refuse(entry, "Your log-in has changed. Reload the page, then attach it again.");
  if (status !== 200) return refuse(entry, "It could not be taken. Attach it again.");
  const holder = document.createElement("template");
  holder.innerHTML = responseText;
  const chip = holder.content.firstElementChild;
  entry.chip.replaceWith(chip);
  htmx.process(chip);
  announcer.textContent = `${entry.file.name} is attached.`;
  next(entry);
}

function refuse(entry, sentence) {
  awaiting = undefined; // What is sent now is not what was meant.
  error.textContent = sentence;
  leave(entry);
}

function leave(entry) {
  entry.request?.abort();
  entry.chip.remove();
  next(entry);
}

function next(entry) {
  const at = line.indexOf(entry);
  if (at < 0) return;
  line.splice(at, 1);
  if (at === 0 && line.length) send(line[0]);
  if (line.length) return;
  if (awaiting !== undefined) form.requestSubmit(awaiting);
  awaiting = undefined;
}

form.addEventListener("files:awaited", ({ detail }) => {
  awaiting = detail;
  announcer.textContent = "It is sent when the files have arrived.";
});
