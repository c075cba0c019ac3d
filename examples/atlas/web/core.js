// The data, and what every part of the page needs.

const DATA = JSON.parse(document.getElementById("data").textContent);
const MODULES = DATA.modules, RUN = DATA.run;
const NUMBER = new Map(MODULES.map((module, n) => [module.name, n]));
const $ = (id) => document.getElementById(id);
const esc = (text) => String(text).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
const count = (n) => Number(n).toLocaleString("en-US");
const several = (n, noun) => `${count(n)} ${noun}${n === 1 ? "" : noun.endsWith("s") ? "es" : "s"}`;
const seconds = (s) => (s < 0.0095 ? `${(s * 1000).toFixed(1)} ms` : s < 1 ? `${Math.round(s * 1000)} ms` : `${s.toFixed(2)} s`);
const isDark = matchMedia("(prefers-color-scheme: dark)");
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

for (const module of MODULES) module.importedBy = [];
MODULES.forEach((module, n) => module.imports.forEach((target) => MODULES[target].importedBy.push(n)));
const PLACES = DATA.index.module_names.map((name) => NUMBER.get(name)); // the index has its own numbers for modules

// Entry numbers of the public names of each module.
const NAMES = MODULES.map(() => []);
DATA.index.titles.forEach((_, entry) => {
  if (kindOf(entry) !== "module") NAMES[moduleOf(entry)].push(entry);
});
// And of those that it only hands on: they are better known by its name than by the one of the module that holds them.
const HANDED_ON = MODULES.map(() => []);
DATA.index.titles.forEach((title, entry) => {
  const shownIn = NUMBER.get(title.slice(0, Math.max(title.lastIndexOf("."), 0)));
  if (shownIn !== undefined && kindOf(entry) !== "module" && shownIn !== moduleOf(entry)) HANDED_ON[shownIn].push(entry);
});
function kindOf(entry) { return DATA.index.kind_names[DATA.index.kinds[entry]]; }
function moduleOf(entry) { return PLACES[DATA.index.modules[entry]]; }

// A colour for each of the large packages; the rest are ink, and what has no Python source is a ring.
const HUES = ["#3f7fd9", "#e0782f", "#a99a3c", "#2f9e8a", "#8e63cf", "#c8579a", "#5b9bb8", "#cf4c56", "#6ca447", "#a5694a", "#7b8794", "#d1a02a"];
const OTHERS = "other modules", NATIVE = "no Python source";
const familySizes = new Map();
for (const module of MODULES) {
  const top = module.name.split(".")[0];
  familySizes.set(top, (familySizes.get(top) ?? 0) + 1);
}
const FAMILIES = [...familySizes].filter(([, size]) => size > 7).sort((a, b) => b[1] - a[1]).slice(0, HUES.length).map(([name]) => name).sort();
function familyOf(module) {
  if (module.kind !== "python") return NATIVE;
  const top = module.name.split(".")[0];
  return FAMILIES.includes(top) ? top : OTHERS;
}
function colourOf(family) {
  if (family === NATIVE) return css("--faint");
  return family === OTHERS ? css("--plain") : HUES[FAMILIES.indexOf(family)];
}
for (const module of MODULES) module.family = familyOf(module);

function showTip(event, html) {
  const tip = $("tip");
  tip.innerHTML = html;
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.min(event.clientX + 14, innerWidth - box.width - 10)}px`;
  tip.style.top = `${event.clientY + 18 + box.height > innerHeight ? event.clientY - box.height - 12 : event.clientY + 18}px`;
}
function hideTip() { $("tip").hidden = true; }

// A canvas of this size in CSS pixels, sharp on any screen; gives its cleared context.
function context(canvas, width, height) {
  const ratio = devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const c = canvas.getContext("2d");
  c.setTransform(ratio, 0, 0, ratio, 0, 0);
  c.clearRect(0, 0, width, height);
  return c;
}

// Text with a halo, unless it would run into an earlier label; `taken` collects the boxes.
function label(c, text, x, y, taken, limit) {
  const width = c.measureText(text).width, height = 13;
  const box = [Math.max(4, Math.min(x - width / 2, limit - width - 4)), y - height / 2];
  const isFree = taken.every(([a, b, w, h]) => box[0] > a + w || box[0] + width < a || box[1] > b + h || box[1] + height < b);
  if (!isFree) return false;
  taken.push([box[0] - 3, box[1], width + 6, height]);
  c.lineWidth = 3.5;
  c.lineJoin = "round";
  c.strokeText(text, box[0], y);
  c.fillText(text, box[0], y);
  return true;
}
