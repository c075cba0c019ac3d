// The card of one module: what it is for, what it offers, what it imports and who imports it.

const KINDS = { python: "Python", builtin: "Compiled into the interpreter, no Python source", extension: "C extension, no Python source" };

function cardOf(n, litEntry) {
  const m = MODULES[n];
  const chips = (numbers, side) => numbers.map((k) => `<button class="chip ${side}" data-module="${k}">${esc(MODULES[k].name)}</button>`).join("");
  const block = (title, content, note = "") => (content ? `<h3>${title} <small>${note}</small></h3>${content}` : "");
  const stats = [
    [m.kind === "python" ? count(m.lines) : "–", "lines"], [count(m.importers), "import it"],
    [count(m.loaders), "load it, directly or not"], [count(m.layer), "layer"],
    [count(m.functions), "functions"], [count(m.classes), "classes"],
    [count(m.complexity), "cyclomatic complexity"], [count(m.weight), `lines come with it, from ${several(m.loads + (m.lines ? 1 : 0), "module")}`],
  ];
  const names = NAMES[n].filter((e) => kindOf(e) !== "constant"), constants = NAMES[n].filter((e) => kindOf(e) === "constant");
  const absent = m.absent.map((name) => `<span class="chip gone">${esc(name)}</span>`).join("");
  return `<button class="close" aria-label="Close" data-close>×</button>
    <h2>${esc(m.name)}</h2><p class="kind">${m.failed ? "Not read: " + esc(m.failed) : KINDS[m.kind]}${m.note ? "; " + esc(m.note) : ""}</p>
    <div class="stats">${stats.map(([value, name]) => `<div><b>${value}</b><span>${name}</span></div>`).join("")}</div>
    ${m.doc ? `<div class="doc folded" data-fold>${esc(m.doc)}</div>` : `<p class="kind" style="margin-top:16px">It has no docstring.</p>`}
    ${block("Imports", `<div class="chips">${chips(m.imports, "down")}${absent}</div>`.replace('<div class="chips"></div>', ""), absent ? "dashed: not on this map" : "")}
    ${block("Imports when needed", m.lazy.length ? `<div class="chips">${chips(m.lazy, "")}</div>` : "", "inside functions")}
    ${block("Imported by", m.importedBy.length ? `<div class="chips folded" data-fold>${chips(m.importedBy, "up")}</div>` : "", m.importedBy.length || "")}
    ${block("Undocumented", m.undocumented.length ? `<div class="chips folded" data-fold>${m.undocumented.map((name) => `<span class="chip">${esc(name)}</span>`).join("")}</div>` : "",
      m.undocumented.length ? `${m.undocumented.length} of ${m.documentable} public names` : "")}
    ${block("Offers", names.map((entry) => nameRow(n, entry, entry === litEntry)).join(""), names.length ? several(names.length, "public name") : "")}
    ${block("Hands on", HANDED_ON[n].length ? `<div class="chips folded" data-fold>${HANDED_ON[n].map((e) =>
      `<button class="chip" data-module="${moduleOf(e)}" data-entry="${e}">${esc(tail(n, e))}</button>`).join("")}</div>` : "", "from inner modules")}
    ${block("Constants", constants.length ? `<div class="chips folded" data-fold>${constants.map((e) => `<span class="chip">${esc(tail(n, e))}${esc(DATA.signatures[e])}</span>`).join("")}</div>` : "")}`;
}

// The name as it is inside the module: its title may be the path that another module offers it under.
function tail(n, entry) {
  const title = DATA.index.titles[entry], depth = kindOf(entry) === "method" ? 2 : 1;
  return title.split(".").slice(-depth).join(".");
}

function nameRow(n, entry, isLit) {
  const kind = kindOf(entry), doc = DATA.docs[entry], [first, isWhole] = opening(doc);
  const parts = tail(n, entry).split("."), last = parts.pop();
  const word = kind === "class" ? "class " : "";
  const elsewhere = DATA.index.titles[entry].startsWith(MODULES[n].name + ".") || kind === "method" ? "" : ` <i>as ${esc(DATA.index.titles[entry])}</i>`;
  const bare = !doc && MODULES[n].kind === "python" ? `<p class="bare">undocumented</p>` : "";
  return `<details class="name ${kind}${isLit ? " lit" : ""}" ${isWhole ? "" : "data-more"} ${isLit && !isWhole ? "open" : ""}><summary>
    <div class="head1"><i>${word}</i>${parts.length ? `<i>${esc(parts.join("."))}.</i>` : ""}<b>${esc(last)}</b><span>${esc(DATA.signatures[entry])}</span>${elsewhere}</div>
    ${first ? `<p>${esc(first)}</p>` : bare}</summary>${isWhole ? "" : `<div class="doc">${esc(doc)}</div>`}</details>`;
}

// A docstring's first paragraph on one line, and whether that is all of it.
function opening(doc) {
  const paragraph = doc.trim().split(/\n\s*\n/, 1)[0].replace(/\s+/g, " ");
  return [paragraph.length > 220 ? paragraph.slice(0, 218).replace(/\s\S*$/, " …") : paragraph, paragraph.length <= 220 && paragraph === doc.trim().replace(/\s+/g, " ")];
}
