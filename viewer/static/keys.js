// The keyboard: j and k through rows, / to the filter, digits to pages, ? for help. Without it all works.
"use strict";

const help = document.getElementById("help");
document.querySelector("[data-help]").addEventListener("click", () => help.showModal());

const writing = (target) => target.closest("input, textarea, select, [contenteditable]");

function step(by) {
  const rows = [...document.querySelectorAll("[data-rows] [data-href]")];
  if (!rows.length) return false;
  const now = rows.findIndex((row) => row.classList.contains("current"));
  const next = Math.min(rows.length - 1, Math.max(0, now + by));
  rows.forEach((row) => row.classList.remove("current"));
  rows[next].classList.add("current");
  rows[next].querySelector("a")?.focus();
  rows[next].scrollIntoView({ block: "nearest" });
  return true;
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target.form) {
    event.target.form.requestSubmit();
    return;
  }
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (writing(event.target)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.key === "?") {
    help.open ? help.close() : help.showModal();
  } else if (event.key === "/") {
    const field = document.querySelector("[data-slash]");
    if (!field) return;
    field.focus();
    field.select();
  } else if (event.key === "j" || event.key === "k") {
    if (!step(event.key === "j" ? 1 : -1)) return;
  } else if (/^[1-9]$/.test(event.key) && !help.open) {
    const link = document.querySelectorAll(".top nav a")[Number(event.key) - 1];
    if (!link) return;
    link.click();
  } else {
    return;
  }
  event.preventDefault();
});

for (const field of document.querySelectorAll("[data-submit]")) {
  field.addEventListener("change", () => field.form.requestSubmit());
}
