// Parts of a page that take their time are asked for after it: the audits.
"use strict";

for (const place of document.querySelectorAll("[data-part]")) {
  place.setAttribute("aria-busy", "true");
  fetch(place.dataset.part)
    .then((answer) => answer.text())
    .then((text) => {
      const found = new DOMParser().parseFromString(text, "text/html");
      place.replaceChildren(...(found.querySelector("[data-is-part]") ?? found.querySelector("main")).children);
      place.removeAttribute("aria-busy");
    });
}
