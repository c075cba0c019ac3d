// The import graph: layers are rows, discs are modules, and an edge runs down to what a module imports.

function makeMap(open) {
  const stage = $("stage"), base = $("base"), over = $("over");
  const MARGIN = { left: 58, right: 26, top: 22, bottom: 24 };
  let scale = 1, width = 0, height = 0, hovered = -1, pinned = -1, family = null;

  const x = (n) => MARGIN.left + MODULES[n].place[0] * scale;
  const y = (n) => MARGIN.top + MODULES[n].place[1] * scale;
  const radius = (n) => Math.max(1.6, MODULES[n].place[2] * scale);

  function edge(c, from, to) {
    const [ax, ay, bx, by] = [x(from), y(from), x(to), y(to)], bend = (by - ay) * 0.45;
    c.moveTo(ax, ay);
    c.bezierCurveTo(ax, ay + bend, bx, by - bend, bx, by);
  }

  function disc(c, n, colour, grow = 0) {
    const module = MODULES[n], isHollow = module.kind !== "python" || module.failed;
    c.beginPath();
    c.arc(x(n), y(n), radius(n) + grow, 0, 2 * Math.PI);
    c.fillStyle = isHollow ? css("--plate") : colour;
    c.fill();
    c.lineWidth = isHollow ? 1.4 : 0.8;
    c.strokeStyle = isHollow ? colour : css("--plate");
    c.stroke();
  }

  function draw() {
    const full = Math.max(stage.clientWidth, 860);
    scale = (full - MARGIN.left - MARGIN.right) / DATA.map.width;
    width = full;
    height = MARGIN.top + MARGIN.bottom + DATA.map.height * scale;
    const c = context(base, width, height);
    c.font = `11px ${css("--sans")}`;
    c.textBaseline = "middle";
    c.fillStyle = css("--faint");
    DATA.map.rows.forEach((row, layer) => c.fillText(layer, 20, MARGIN.top + row * scale));
    c.beginPath();
    c.strokeStyle = css("--ink");
    c.globalAlpha = Math.min(0.4, 3 / Math.sqrt(MODULES.reduce((sum, module) => sum + module.imports.length, 1))); // a texture
    c.lineWidth = 1;
    MODULES.forEach((module, n) => module.imports.forEach((target) => edge(c, n, target)));
    c.stroke();
    c.globalAlpha = 1;
    const colours = new Map([...FAMILIES, OTHERS, NATIVE].map((name) => [name, colourOf(name)]));
    MODULES.forEach((module, n) => disc(c, n, module.failed ? css("--up") : colours.get(module.family)));
    names(c, MODULES.map((_, n) => n).sort((a, b) => weight(b) - weight(a)).slice(0, 170), []);
    highlight();
  }

  const weight = (n) => MODULES[n].importers + MODULES[n].lines / 90;

  function names(c, numbers, taken) {
    c.font = `600 11px ${css("--sans")}`;
    c.textBaseline = "middle";
    c.strokeStyle = css("--plate");
    c.fillStyle = css("--ink");
    for (const n of numbers) label(c, MODULES[n].name, x(n), y(n) - radius(n) - 7, taken, width);
  }

  // Dims the picture and draws over it what the module in hand has to do with.
  function highlight() {
    const n = hovered >= 0 ? hovered : pinned;
    const c = context(over, width, height);
    base.style.opacity = n >= 0 || family ? 0.22 : 1;
    if (n < 0) {
      if (family) MODULES.forEach((module, m) => module.family === family && disc(c, m, colourOf(family)));
      if (family) names(c, MODULES.map((_, m) => m).filter((m) => MODULES[m].family === family).sort((a, b) => weight(b) - weight(a)), []);
      return;
    }
    const { imports, importedBy } = MODULES[n];
    const parts = [[importedBy, css("--up")], [imports, css("--down")]];
    for (const [others, colour] of parts) {
      c.beginPath();
      c.strokeStyle = colour;
      c.globalAlpha = others.length > 60 ? 0.28 : 0.6;
      c.lineWidth = 1.2;
      for (const other of others) edge(c, others === imports ? n : other, others === imports ? other : n);
      c.stroke();
      c.globalAlpha = 1;
      for (const other of others) disc(c, other, colour);
    }
    disc(c, n, css("--ink"), 1.5);
    const order = [...new Set([...imports, ...importedBy])].sort((a, b) => weight(b) - weight(a));
    names(c, [n, ...order], []);
  }

  function at(event) {
    const box = over.getBoundingClientRect(), px = event.clientX - box.left, py = event.clientY - box.top;
    let best = -1, nearest = 9;
    MODULES.forEach((_, n) => {
      const far = Math.hypot(x(n) - px, y(n) - py) - radius(n);
      if (far < nearest) [best, nearest] = [n, far];
    });
    return best;
  }

  over.addEventListener("mousemove", (event) => {
    const n = at(event);
    over.style.cursor = n >= 0 ? "pointer" : "default";
    if (n >= 0) {
      const m = MODULES[n];
      const size = m.kind === "python" ? several(m.lines, "line") : m.kind === "builtin" ? "compiled into the interpreter" : "C extension";
      showTip(event, `<b>${esc(m.name)}</b><span>${size} · layer ${m.layer}<br>imports ${m.imports.length} · imported by ${m.importers}</span>`);
    } else hideTip();
    if (n !== hovered) { hovered = n; highlight(); }
  });
  over.addEventListener("mouseleave", () => { hovered = -1; hideTip(); highlight(); });
  over.addEventListener("click", (event) => { const n = at(event); if (n >= 0) open(n); });

  $("legend").innerHTML = [...FAMILIES, OTHERS, NATIVE].map((name) =>
    `<button data-family="${esc(name)}"><i class="${name === NATIVE ? "hollow" : ""}" style="--c:${colourOf(name)}"></i>${esc(name)}</button>`).join("");
  $("legend").addEventListener("mouseover", (event) => { family = event.target.closest("button")?.dataset.family ?? null; highlight(); });
  $("legend").addEventListener("mouseleave", () => { family = null; highlight(); });

  new ResizeObserver(draw).observe(stage);
  isDark.addEventListener("change", draw);
  draw();
  return { pin(n) { pinned = n; hovered = -1; highlight(); } };
}
