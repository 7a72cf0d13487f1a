// The form of an agent in admin: only the chosen provider's settings are there, and its models are suggested.
// Without this script the settings of the provider that was saved are there.

const provider = document.getElementById("id_provider");
const model = document.getElementById("id_model");

function show() {
  for (const settings of document.querySelectorAll(".provider-settings")) {
    settings.classList.toggle("other-provider", !settings.classList.contains(`provider-${provider.value}`));
  }
  model.setAttribute("list", `models-${provider.value}`);
}

if (provider && model) {
  provider.addEventListener("change", show);
  show();
}
