// One rollout: a click, the arrow keys or j and k choose a token; the server draws its top-k.
"use strict";

const box = document.querySelector("[data-tokens]");

if (box) {
  const spans = [...box.querySelectorAll(":scope > span")];
  let at = Number(box.dataset.at);
  let asked = 0;
  let values = null;

  const read = async (url) => {
    const answer = await fetch(url);
    if (!answer.ok) throw new Error(`${url}: ${answer.status}`);
    return answer;
  };

  async function show(position) {
    spans[at]?.classList.remove("at");
    spans[at]?.removeAttribute("aria-current");
    at = Math.min(spans.length - 1, Math.max(0, position));
    spans[at].classList.add("at");
    spans[at].setAttribute("aria-current", "true");
    spans[at].scrollIntoView({ block: "nearest" });
    const here = new URL(location.href);
    here.searchParams.set("at", at);
    history.replaceState(null, "", here);
    document.querySelector("input[name=at]").value = at;
    const mine = ++asked;
    const text = await (await read(box.dataset.url + at)).text();
    if (mine !== asked) return;
    const found = new DOMParser().parseFromString(text, "text/html").getElementById("topk");
    document.getElementById("topk").replaceWith(found);
    if (!values) {
      const data = new URL(location.href);
      data.pathname += ".json";
      values = (await (await read(data)).json()).tokens.values;
    }
    const value = values[at];
    document.querySelector("[data-readout]").textContent =
      `value at token ${at}: ${value === null ? "–" : Number(value.toPrecision(4))}`;
  }

  box.addEventListener("click", (event) => {
    const span = event.target.closest("[data-tokens] > span");
    if (span) show(spans.indexOf(span));
  });
  const moves = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 10, ArrowUp: -10, j: 1, k: -1 };
  document.addEventListener(
    "keydown",
    (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || writing(event.target)) return;
      const by = moves[event.key];
      if (!by || (event.key.startsWith("Arrow") && document.activeElement !== box)) return;
      event.preventDefault();
      show(at + by);
    },
    true,
  );
}
