// The timeline: one lane for each worker, one bar for each task, and which chain of tasks took longest.

function makeRun(open) {
  const canvas = $("gantt"), controls = $("run-controls");
  const LEFT = 116, RIGHT = 22, TOP = 12, LANE = 46, BAR = 32, AXIS = 34;
  const critical = new Set(RUN.critical);
  const whole = [0, RUN.wall * 1.005];
  let view = [...whole], isCriticalOnly = false, drag = null, width = 0;

  const px = (t) => LEFT + (t - view[0]) / (view[1] - view[0]) * (width - LEFT - RIGHT);
  const time = (p) => view[0] + (p - LEFT) / (width - LEFT - RIGHT) * (view[1] - view[0]);
  const colour = (task) => (NUMBER.has(task) ? colourOf(MODULES[NUMBER.get(task)].family) : css("--ink"));
  const title = (task) => (NUMBER.has(task) ? task : task.replace("atlas:", ""));

  function draw() {
    width = Math.max(canvas.parentElement.clientWidth, 560);
    const height = TOP + RUN.lanes.length * LANE + AXIS, c = context(canvas, width, height);
    axis(c, height);
    RUN.lanes.forEach((lane, row) => {
      const y = TOP + row * LANE + (LANE - BAR) / 2;
      c.font = `12.5px ${css("--sans")}`;
      c.textBaseline = "middle";
      c.fillStyle = css("--soft");
      c.fillText(lane.name, 20, y + BAR / 2);
      c.save();
      c.beginPath();
      c.rect(LEFT, 0, width - LEFT - RIGHT, height);
      c.clip();
      for (const [task, start, took] of lane.bars) bar(c, task, px(start), px(start + took), y);
      c.restore();
    });
    if (drag) {
      c.fillStyle = css("--down");
      c.globalAlpha = 0.15;
      c.fillRect(Math.min(...drag), TOP, Math.abs(drag[1] - drag[0]), height - TOP - AXIS);
      c.globalAlpha = 1;
    }
    controls.querySelector("[data-act=whole]").hidden = view[0] === whole[0] && view[1] === whole[1];
  }

  function bar(c, task, from, to, y) {
    if (to < LEFT || from > width) return;
    const wide = Math.max(to - from - (to - from > 3 ? 0.8 : 0), 0.7);
    c.globalAlpha = isCriticalOnly && !critical.has(task) ? 0.14 : 0.92;
    c.fillStyle = isCriticalOnly && critical.has(task) ? css("--up") : colour(task);
    c.fillRect(from, y, wide, BAR);
    c.globalAlpha = 1;
    c.font = `11px ${css("--mono")}`;
    const text = title(task);
    if (wide > 26 && c.measureText(text).width < wide - 8) {
      c.fillStyle = css("--plate");
      c.fillText(text, from + 5, y + BAR / 2 + 0.5);
    }
  }

  function axis(c, height) {
    const span = view[1] - view[0], raw = span / 9, power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= raw);
    c.font = `11.5px ${css("--sans")}`;
    c.textBaseline = "alphabetic";
    for (let t = Math.ceil(view[0] / step) * step; t <= view[1]; t += step) {
      c.fillStyle = css("--line");
      c.fillRect(Math.round(px(t)), TOP, 1, height - TOP - AXIS + 6);
      c.fillStyle = css("--faint");
      c.fillText(step >= 1 ? `${t.toFixed(0)} s` : step >= 0.1 ? `${t.toFixed(1)} s` : `${Math.round(t * 1000)} ms`, px(t) + 4, height - 14);
    }
  }

  function at(event) {
    const box = canvas.getBoundingClientRect(), x = event.clientX - box.left;
    const lane = RUN.lanes[Math.floor((event.clientY - box.top - TOP) / LANE)];
    if (!lane || x < LEFT) return null;
    const slack = (view[1] - view[0]) / (width - LEFT - RIGHT) * 2, t = time(x);
    const gap = ([, start, took]) => Math.max(start - t, t - start - took, 0);
    let best = null;
    for (const one of lane.bars) if (gap(one) <= slack && (!best || gap(one) < gap(best))) best = one;
    return best;
  }

  canvas.addEventListener("mousemove", (event) => {
    if (drag) {
      drag[1] = Math.min(Math.max(event.clientX - canvas.getBoundingClientRect().left, LEFT), width - RIGHT);
      return draw();
    }
    const found = at(event);
    if (!found) return hideTip();
    const [task, start, took] = found;
    showTip(event, `<b>${esc(title(task))}</b><span>${seconds(took)}, from ${seconds(start)}${critical.has(task) ? "<br>on the critical path" : ""}</span>`);
  });
  canvas.addEventListener("mouseleave", () => { hideTip(); drag = null; draw(); });
  canvas.addEventListener("mousedown", (event) => {
    const x = event.clientX - canvas.getBoundingClientRect().left;
    if (x > LEFT) drag = [x, x];
  });
  canvas.addEventListener("mouseup", (event) => {
    const range = drag;
    drag = null;
    if (range && Math.abs(range[1] - range[0]) > 6) view = [time(Math.min(...range)), time(Math.max(...range))];
    else { const found = at(event); if (found && NUMBER.has(found[0])) open(NUMBER.get(found[0])); }
    draw();
  });
  canvas.addEventListener("dblclick", () => { view = [...whole]; draw(); });
  controls.innerHTML = `<button data-act="critical">Critical path</button><button data-act="whole" hidden>Whole run</button>
    <span>Each bar is a task; colours as on the map. Drag to zoom in, click to read.</span>`;
  controls.addEventListener("click", (event) => {
    const act = event.target.dataset?.act;
    if (act === "critical") { isCriticalOnly = !isCriticalOnly; event.target.classList.toggle("on", isCriticalOnly); }
    if (act === "whole") view = [...whole];
    draw();
  });
  new ResizeObserver(draw).observe(canvas.parentElement);
  isDark.addEventListener("change", draw);
  draw();
}
