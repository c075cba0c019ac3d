// Puts the page together: headline, lists, table, search, and the card that all of them open.

const engine = makeSearch(DATA.index);
const map = makeMap(openCard);
makeRun(openCard);
headline();
lists();
table();
footer();
listen();
readHash();

function openCard(n, litEntry) {
  const card = $("card");
  card.innerHTML = cardOf(n, litEntry);
  card.hidden = false;
  card.scrollTop = 0;
  for (const part of card.querySelectorAll("[data-fold]")) if (part.scrollHeight <= part.clientHeight + 20) part.classList.remove("folded");
  card.querySelector(".lit")?.scrollIntoView({ block: "center" });
  map.pin(n);
  hideTip();
  setHash(`m=${MODULES[n].name}`);
}

function closeCard() {
  if ($("card").hidden) return;
  $("card").hidden = true;
  map.pin(-1);
  setHash("");
}

function setHash(text) { history.replaceState(null, "", text ? "#" + text.replaceAll(" ", "+") : location.pathname); }

function readHash() {
  const given = new URLSearchParams(location.hash.slice(1));
  if (given.has("q")) { $("q").value = given.get("q"); ask(); }
  if (given.has("m") && NUMBER.has(given.get("m"))) openCard(NUMBER.get(given.get("m")));
}

function headline() {
  const python = MODULES.filter((m) => m.kind === "python" && !m.failed), native = MODULES.filter((m) => m.kind !== "python");
  const lines = python.reduce((sum, m) => sum + m.lines, 0), { public: total, undocumented } = DATA.undocumented;
  $("lede").innerHTML = `Python ${esc(RUN.python)} on ${esc(RUN.platform)}: <b>${several(python.length, "module")}</b> of Python and <b>${native.length}</b> without
    Python source. Each was read by a task of its own as soon as what it imports had been read, ${several(RUN.tasks, "task")} in all, on ${several(RUN.processes, "process")}.`;
  const figures = [
    [count(lines), "", "lines of Python"], [count(DATA.index.titles.length - MODULES.length), "", "public names"],
    [Math.round(100 * (1 - undocumented / Math.max(total, 1))), "%", "of functions, classes and methods documented"],
    [RUN.wall.toFixed(2), "s", "from the first look at the files to this page"], [RUN.work.toFixed(2), "s", "of work, summed over all workers"],
    [(RUN.work / RUN.wall).toFixed(2), "×", `parallelism with ${several(RUN.processes, "process")}, start-up included`],
    [RUN.critical_seconds.toFixed(2), "s", `critical path, ${RUN.critical.length} tasks in a row`],
  ];
  $("figures").innerHTML = figures.map(([value, unit, text]) => `<div><dd>${value}<small>${unit}</small></dd><dt>${text}</dt></div>`).join("");
  const failed = MODULES.filter((m) => m.failed);
  if (failed.length) {
    $("trouble").innerHTML = `<div class="trouble"><b>${several(failed.length, "module")} couldn't be read.</b> ${failed.length === 1 ? "Its task" : "Their tasks"} failed, and nothing else was stopped by it.
      ${failed.map((m) => `<code>${esc(m.name)}: ${esc(m.failed)}</code>`).join("")}</div>`;
  }
  $("map-note").innerHTML = `A module stands one layer above the highest one that it imports when it is imported itself; the bottom row imports nothing.
    Area follows lines. Point at a module: what it imports turns <b style="color:var(--down)">blue</b>, what imports it <b style="color:var(--up)">orange</b>. Click to read.`;
  $("run-note").textContent = `No number of workers could have read the modules and made the lists in less than the critical path's ${seconds(RUN.critical_seconds)}.
    Beforehand the imports of all files were scanned in ${seconds(RUN.scan)} to know the graph; ${RUN.disagreements.length ? "the parser disagreed about " + RUN.disagreements.join(", ") : "the parser later agreed on every file"}.`;
}

function list(title, note, rows) {
  return `<div class="list"><h3>${title}</h3><p>${note}</p><ol>${rows.map(([module, text, number, share]) =>
    `<li><button class="row" ${module === null ? "disabled" : `data-module="${module}"`} style="--share:${(100 * share).toFixed(1)}%"><span class="mono">${esc(text)}</span><span class="num">${number}</span></button></li>`).join("")}</ol></div>`;
}

function lists() {
  const rows = (items, value, text, name = (item) => item.module) => items.slice(0, 14).map((item) =>
    [NUMBER.get(item.module) ?? null, name(item), text(item), value(item) / value(items[0])]);
  const bars = RUN.lanes.flatMap((lane) => lane.bars.map(([task, , took]) => ({ module: task, took })));
  const slowest = bars.sort((a, b) => b.took - a.took);
  const path = RUN.critical.map((task) => bars.find((one) => one.module === task)).sort((a, b) => b.took - a.took);
  const shown = (item) => item.module.replace("atlas:", "");
  $("run-lists").innerHTML =
    list("Longest tasks", "Where the time went.", rows(slowest, (i) => i.took, (i) => seconds(i.took), shown).slice(0, 10)) +
    list("On the critical path", "Its longest links: speeding these up is what would help on more workers.", rows(path, (i) => i.took, (i) => seconds(i.took), shown).slice(0, 10)) +
    list("By package", "Work done for each, over all processes.", byPackage(bars).slice(0, 10));
  $("ranking-lists").innerHTML =
    list("Most depended on", "How many modules import it themselves, and how many load it in the end.",
      rows(DATA.depended, (i) => i.importers, (i) => `<b>${i.importers}</b> · ${i.loaders}`)) +
    list("Heaviest to import", "Lines and modules that one import pulls in; the heaviest of each package.",
      rows(DATA.heaviest, (i) => i.weight, (i) => `<b>${count(i.weight)}</b> · ${i.loads}`)) +
    list("Undocumented", "Public functions, classes and methods without a docstring.",
      rows(DATA.undocumented.modules, (i) => i.undocumented, (i) => `<b>${i.undocumented}</b> of ${i.public}`)) +
    list("Most complex", "The functions with most branches, one of each module (cyclomatic complexity).",
      rows(DATA.hardest, (i) => i.complexity, (i) => `<b>${i.complexity}</b>`, (i) => `${i.module}.${i.function}`));
  const chip = (name) => `<button class="chip" data-module="${NUMBER.get(name)}">${esc(name)}</button>`;
  const ring = ({ ring: names, group }) => `<div class="ring">${[...names, names[0]].map(chip).join("<span>→</span>")}
    ${group.length > names.length ? `<span>and in the same circle</span>${group.filter((name) => !names.includes(name)).map(chip).join("")}` : ""}</div>`;
  $("circles").innerHTML = `<div class="list"><h3>Import circles</h3><p>Modules that import each other while being imported. Each circle is one group: its members wait for what lies outside, not for each other.</p>
    ${DATA.cycles.map(ring).join("") || "<p>There are none.</p>"}</div>
    <div class="list"><h3>And the great knot</h3><p>Imports inside functions keep the circles this small. If those counted too, <b>${count(DATA.knot.length)} modules</b>
    would hang together, each needing all the others. Some of them:</p><div class="chips">${sample(DATA.knot).map(chip).join("")}</div></div>`;
}

function byPackage(bars) {
  const sums = new Map();
  for (const { module, took } of bars) {
    const key = NUMBER.has(module) ? MODULES[NUMBER.get(module)].name.split(".")[0] : "the atlas itself";
    sums.set(key, (sums.get(key) ?? 0) + took);
  }
  const ranked = [...sums].sort((a, b) => b[1] - a[1]);
  return ranked.map(([name, took]) => [NUMBER.get(name) ?? null, name, seconds(took), took / ranked[0][1]]);
}

function sample(names) { return [...names].sort((a, b) => MODULES[NUMBER.get(b)].importers - MODULES[NUMBER.get(a)].importers).slice(0, 36); }

function table() {
  const summary = (m) => (m.failed ? "not read" : opening(m.doc)[0]);
  const columns = [
    ["Module", (m) => m.name, (m) => esc(m.name)], ["What it says it is", summary, (m) => esc(summary(m)), "text"],
    ["Lines", (m) => m.lines, (m) => (m.kind === "python" ? count(m.lines) : "C")], ["Layer", (m) => m.layer, (m) => m.layer],
    ["Imports", (m) => m.imports.length, (m) => m.imports.length], ["Imported by", (m) => m.importers, (m) => m.importers],
    ["Lines pulled in", (m) => m.weight, (m) => count(m.weight)], ["Public names", (m) => NAMES[NUMBER.get(m.name)].length, (m) => NAMES[NUMBER.get(m.name)].length],
    ["Documented", (m) => (m.documentable ? 1 - m.undocumented.length / m.documentable : -1),
      (m) => (m.documentable ? `${Math.round(100 * (1 - m.undocumented.length / m.documentable))}%` : "")],
    ["Complexity", (m) => m.complexity, (m) => count(m.complexity)],
  ];
  let by = 5, isDown = true, isAll = false;
  const sorted = () => [...MODULES.keys()].sort((a, b) => {
    const [x, y] = [columns[by][1](MODULES[a]), columns[by][1](MODULES[b])];
    return (x < y ? -1 : x > y ? 1 : 0) * (isDown ? -1 : 1) || a - b;
  });
  function draw() {
    const rows = isAll ? sorted() : sorted().slice(0, 30);
    $("table").innerHTML = `<thead><tr>${columns.map(([name, , , cls], k) => `<th class="${cls ?? ""}${k === by ? " on" : ""}" data-by="${k}">${name}${k === by ? (isDown ? " ↓" : " ↑") : ""}</th>`).join("")}</tr></thead>
      <tbody>${rows.map((n) => `<tr data-module="${n}">${columns.map(([, , html, cls]) => `<td class="${cls ?? ""}">${html(MODULES[n])}</td>`).join("")}</tr>`).join("")}</tbody>`;
    $("more").textContent = isAll ? "Show only the first 30" : `Show all ${count(MODULES.length)}`;
  }
  $("table").addEventListener("click", (event) => {
    const k = event.target.closest("th")?.dataset.by;
    if (k === undefined) return;
    isDown = Number(k) === by ? !isDown : Number(k) > 1;
    by = Number(k);
    draw();
  });
  $("more").addEventListener("click", () => { isAll = !isAll; draw(); });
  draw();
}

function footer() {
  $("footer").innerHTML = `<p>Made by <span class="mono">examples/stdlib_atlas.py</span> on ${esc(RUN.made)}: a nerv workflow of ${several(RUN.tasks, "task")}, whose last one wrote this page.
    Test suites are left out; of C modules only what they tell at run time is shown. Search is BM25 over names, summaries and docstrings, worked out beforehand and asked in this page; nothing is loaded from anywhere.</p>`;
}

function ask() {
  const query = $("q").value, panel = $("results");
  const words = new Set(engine.tokens(query));
  if (!words.size) { panel.hidden = true; return; }
  const isRelevant = ([, score], _, all) => score > all[0][1] / 9;
  const modules = engine.search(query, 9, (kind) => kind === "module").filter(isRelevant);
  const names = engine.search(query, 600, (kind) => kind !== "module").filter(isRelevant);
  const bestIn = new Map([...names].reverse().map(([entry]) => [moduleOf(entry), entry]));
  const part = (title, hits) => `<div><h3>${title}</h3>${hits.map(([entry]) => hitRow(entry, words, bestIn)).join("") || '<p class="nothing">Nothing found.</p>'}</div>`;
  panel.innerHTML = `<div class="wrap">${part("Modules", modules)}${part("Names", names.slice(0, 14))}</div>`;
  panel.hidden = false;
}

function hitRow(entry, words, bestIn) {
  const kind = kindOf(entry), m = MODULES[moduleOf(entry)], title = DATA.index.titles[entry];
  const note = kind === "module" ? (m.kind === "python" ? several(m.lines, "line") : "C") : title.startsWith(m.name + ".") ? kind : `${kind} in ${m.name}`;
  const shape = kind === "module" ? "" : `<span class="sig">${esc(DATA.signatures[entry])}</span>`;
  const text = kind === "module" ? evidence(moduleOf(entry), words, bestIn) : snippet(DATA.docs[entry], words);
  return `<button class="hit" data-module="${moduleOf(entry)}" data-entry="${entry}"><div class="title"><span class="path">${marked(title, words)}</span>${shape}<small>${esc(note)}</small></div>
    ${text ? `<p>${text}</p>` : ""}</button>`;
}

// How many of these words a text holds.
function worth(text, words) { return new Set(engine.tokens(text).filter((token) => words.has(token))).size; }

// Why a module fits: its own docstring, or the best name in it when that says more.
function evidence(n, words, bestIn) {
  const { doc, name } = MODULES[n], best = bestIn.get(n);
  const says = best === undefined ? 0 : worth(`${tail(n, best)} ${DATA.docs[best]}`, words);
  if (says <= worth(`${name} ${doc}`, words)) return doc ? snippet(doc, words) : "";
  return `<i>${marked(tail(n, best), words)}</i>&ensp;${snippet(DATA.docs[best], words)}`;
}

// The sentence that holds most of the words asked for, with them marked; the first one when none does.
function snippet(doc, words) {
  const sentences = doc.replace(/\s+/g, " ").split(/(?<=[.:;!?]) /), values = sentences.map((text) => worth(text, words));
  const best = values.indexOf(Math.max(...values)), text = sentences.slice(best, best + 3).join(" ");
  return (best > 0 ? "… " : "") + marked(text.length > 240 ? text.slice(0, 238) + " …" : text, words);
}

function marked(text, words) {
  return esc(text).replace(/&\w+;|[A-Za-z0-9]+/g, (word) => (word[0] !== "&" && engine.tokens(word).some((token) => words.has(token)) ? `<mark>${word}</mark>` : word));
}

function listen() {
  const field = $("q"), panel = $("results");
  field.addEventListener("input", () => { ask(); setHash(field.value ? "q=" + encodeURIComponent(field.value).replaceAll("%20", "+") : ""); });
  field.addEventListener("focus", ask);
  document.addEventListener("click", (event) => {
    const target = event.target.closest("[data-module]");
    if (event.target.closest("[data-close]")) closeCard();
    else if (event.target.closest(".folded") && !target) event.target.closest(".folded").classList.remove("folded");
    else if (target) {
      panel.hidden = true;
      openCard(Number(target.dataset.module), target.dataset.entry === undefined ? undefined : Number(target.dataset.entry));
    } else if (!event.target.closest(".bar")) panel.hidden = true;
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && document.activeElement !== field) { event.preventDefault(); field.focus(); field.select(); }
    if (event.key === "Escape") { if (!panel.hidden) { panel.hidden = true; field.blur(); } else closeCard(); }
    if (!panel.hidden && (event.key === "ArrowDown" || event.key === "ArrowUp" || event.key === "Enter")) step(event);
  });
  addEventListener("hashchange", readHash);
}

function step(event) {
  const hits = [...document.querySelectorAll(".hit")], now = hits.findIndex((hit) => hit.classList.contains("on"));
  event.preventDefault();
  if (event.key === "Enter") return (hits[now] ?? hits[0])?.click();
  hits[now]?.classList.remove("on");
  const next = hits[Math.max(0, Math.min(hits.length - 1, now + (event.key === "ArrowDown" ? 1 : -1)))];
  next?.classList.add("on");
  next?.scrollIntoView({ block: "nearest" });
}
