// The table of rollouts at any length: rows around what is seen are fetched, the others are a gap.
"use strict";

const scroller = document.querySelector("[data-rows]");
const ROW = 34;
const MARGIN = 30;
// Browsers draw nothing taller than some 30 million pixels: beyond, a pixel stands for several rows.
const TALLEST = 8_000_000;

if (scroller && Number(scroller.dataset.total) > 0) {
  const total = Number(scroller.dataset.total);
  const body = scroller.querySelector("tbody");
  const tall = Math.min(total * ROW, TALLEST);
  const cached = new Map();
  const CHUNK = 100;
  let current = -1;
  let drawn = "";
  let asked = 0;

  document.querySelector("[data-paging]").hidden = true;
  scroller.classList.add("virtual");

  const fetchChunk = (chunk) => {
    if (!cached.has(chunk)) {
      const url = new URL(scroller.dataset.url, location.href);
      url.pathname += ".json";
      url.searchParams.set("offset", chunk * CHUNK);
      url.searchParams.set("rows", CHUNK);
      const rows = fetch(url).then((answer) => (answer.ok ? answer.json() : Promise.reject(answer.status)));
      cached.set(chunk, rows.then((data) => data.rows));
      rows.catch(() => cached.delete(chunk));
      if (cached.size > 60) cached.delete(cached.keys().next().value);
    }
    return cached.get(chunk);
  };

  const cell = (text, kind, direction) => {
    const td = document.createElement("td");
    if (kind) td.className = kind;
    if (direction) td.dir = "auto";
    td.textContent = text ?? "";
    return td;
  };
  const code = (text) => {
    const td = cell("", "", true);
    const inner = document.createElement("code");
    inner.textContent = shown((text ?? "").slice(0, 40));
    td.append(inner);
    return td;
  };
  // What a model wrote must not turn or hide what stands beside it; as viewer/text.py has it.
  const shown = (text) =>
    text.replace(/\s+/g, " ").replace(/[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, (c) =>
      `⟨U+${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
  const badge = (verdict) => {
    const span = document.createElement("span");
    const good = verdict?.outcome === "correct";
    const bad = ["wrong", "unparseable"].includes(verdict?.outcome);
    span.className = `badge ${good ? "good" : bad ? "bad" : verdict ? "" : "none"}`;
    span.textContent = verdict ? verdict.outcome + (good || bad || verdict.reward === null ? "" : ` ${verdict.reward}`) : "not graded";
    return span;
  };

  function line(row, index) {
    const tr = document.createElement("tr");
    tr.dataset.href = `/rollout/${encodeURIComponent(row.rollout_id)}`;
    tr.dataset.index = index;
    const verdicts = cell("");
    verdicts.append(...(row.verdicts.length ? row.verdicts : [null]).map(badge));
    const prompt = cell("", "", true);
    const link = document.createElement("a");
    link.href = tr.dataset.href;
    link.textContent = shown((row.prompt ?? row.prompt_id).slice(0, 160));
    prompt.append(link);
    const tokens = cell(row.response_tokens?.toLocaleString("en") ?? "–", "n");
    if (row.finish_reason === "length") {
      const cut = document.createElement("span");
      cut.className = "cut";
      cut.title = "cut off";
      cut.textContent = "✂";
      tokens.append(" ", cut);
    }
    tr.append(
      cell(index.toLocaleString("en"), "n muted"), verdicts, prompt, code(row.answer), code(row.extracted),
      tokens, cell(shown(row.policy ?? "–")), cell(row.round, "n"), cell(shown(row.purpose)),
    );
    if (index === current) tr.classList.add("current");
    return tr;
  }

  const gap = (height) => {
    const tr = document.createElement("tr");
    tr.className = "gap";
    const td = document.createElement("td");
    td.colSpan = 9;
    td.style.height = `${Math.max(0, height)}px`;
    tr.append(td);
    return tr;
  };

  const seen = () => Math.ceil(scroller.clientHeight / ROW);
  const furthest = () => Math.max(1, tall - scroller.clientHeight);
  const topRow = () => Math.round((scroller.scrollTop / furthest()) * Math.max(0, total - seen()));

  async function draw(force) {
    const first = Math.max(0, topRow() - MARGIN);
    const last = Math.min(total, topRow() + seen() + MARGIN);
    const key = `${first} ${last}`;
    if (key === drawn && !force) return;
    const mine = ++asked;
    const chunks = [];
    for (let i = Math.floor(first / CHUNK); i * CHUNK < last; i++) chunks.push(i);
    const found = new Map();
    (await Promise.all(chunks.map(fetchChunk))).forEach((rows, i) =>
      rows.forEach((row, j) => found.set(chunks[i] * CHUNK + j, row)));
    if (mine !== asked) return;
    drawn = key;
    const lines = [];
    for (let i = first; i < last && found.has(i); i++) lines.push(line(found.get(i), i));
    const above = Math.min(scroller.scrollTop - (topRow() - first) * ROW, tall - lines.length * ROW);
    body.replaceChildren(gap(above), ...lines, gap(tall - above - lines.length * ROW));
  }

  async function go(index) {
    current = Math.min(total - 1, Math.max(0, index));
    if (current < topRow() || current >= topRow() + seen() - 2) {
      const wanted = Math.max(0, current - Math.floor(seen() / 2));
      scroller.scrollTop = (wanted / Math.max(1, total - seen())) * furthest();
    }
    await draw(true);
    body.querySelector(`[data-index="${current}"] a`)?.focus({ preventScroll: true });
  }

  let waiting = 0;
  scroller.addEventListener("scroll", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => draw(false), 30);
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || writing(event.target)) return;
    const by = { j: 1, k: -1, PageDown: seen() - 2, PageUp: 2 - seen() }[event.key];
    if (!by) return;
    event.preventDefault();
    go(current < 0 ? topRow() : current + by);
  }, true);

  const start = Number(scroller.dataset.offset);
  if (start) scroller.scrollTop = (start / Math.max(1, total - seen())) * furthest();
  draw(true);
}
