// Loss curves: mean over seeds with the band from the smallest to the largest seed, drawn as SVG at the width there is.
(() => {
  "use strict";
  const root = document.getElementById("curves");
  if (!root) return;
  const data = JSON.parse(document.getElementById("curves-data").textContent);
  const chart = root.querySelector(".chart");
  const legend = root.querySelector(".legend");
  const readout = root.querySelector(".readout");
  const says = document.getElementById("chart-says");
  const form = root.querySelector("form");
  const hidden = new Set();
  const axes = { tokens: "tokens trained on", step: "optimizer steps", seconds: "seconds of training" };
  let drawn = null; // what the last drawing showed: its scales and tracks
  let cursor = null; // the x value being read

  const element = (name, attributes, text) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const setting = (name) => form.elements[name].value;
  const colour = (of) => `var(--${of.colour})`;

  const number = (value) => {
    if (value === 0) return "0";
    for (const [unit, size] of [[" M", 1e6], [" k", 1e3]]) if (Math.abs(value) >= size) return +(value / size).toPrecision(3) + unit;
    return String(+value.toPrecision(3));
  };

  // ---- scales -------------------------------------------------------------------------------------------------------

  const linear = (low, high, from, to) => {
    const scale = (value) => from + ((value - low) / (high - low || 1)) * (to - from);
    scale.ticks = (count) => {
      const rough = (high - low) / count || 1;
      const power = 10 ** Math.floor(Math.log10(rough));
      const step = [1, 2, 5, 10].find((m) => m * power >= rough) * power;
      const ticks = [];
      for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) ticks.push(+(i * step).toPrecision(12));
      return ticks;
    };
    return scale;
  };

  const logarithmic = (low, high, from, to) => {
    const inner = linear(Math.log(low), Math.log(high), from, to);
    const scale = (value) => inner(Math.log(Math.max(value, low)));
    scale.ticks = (count) => {
      for (const multiples of [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9]].reverse()) {
        const ticks = [];
        for (let p = Math.floor(Math.log10(low)); p <= Math.ceil(Math.log10(high)); p++)
          for (const m of multiples) if (m * 10 ** p >= low * 0.999 && m * 10 ** p <= high * 1.001) ticks.push(+(m * 10 ** p).toPrecision(12));
        if (ticks.length <= count + 2 && ticks.length >= 2) return ticks;
      }
      return linear(low, high, 0, 1).ticks(count);
    };
    return scale;
  };

  // ---- drawing ------------------------------------------------------------------------------------------------------

  const tracks = () => data.models
    .filter((model) => !hidden.has(model.name) && model[setting("loss")].step.length)
    .map((model) => ({ ...model, ...model[setting("loss")], x: model[setting("loss")][setting("x")] }));

  const draw = () => {
    chart.querySelector("svg")?.remove();
    const width = chart.clientWidth;
    const wide = width > 640;
    const height = Math.round(Math.max(260, Math.min(430, width * 0.52)));
    const shown = tracks();
    const lines = data.lines.filter((line) => !hidden.has(line.name));
    const logx = setting("xscale") === "log";
    const logy = setting("yscale") === "log";
    const svg = element("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
    chart.prepend(svg);
    drawn = null;
    if (!shown.length) {
      svg.append(element("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, "No curve is shown: choose a model above."));
      return;
    }
    // A uniform guess far above all curves would flatten them. The floor and the baseline are the measure: always drawn.
    const lows = shown.flatMap((t) => t.low), highs = shown.flatMap((t) => t.high);
    let low = Math.min(...lows), high = Math.max(...highs);
    const near = lines.filter((line) => line.kind !== "uniform" || line.value < high + (high - low || 1) * 0.25);
    low = Math.min(low, ...near.map((line) => line.value));
    high = Math.max(high, ...near.map((line) => line.value));
    const pad = (high - low || 0.1) * 0.04;
    const xs = shown.flatMap((t) => t.x);
    const positive = xs.filter((x) => x > 0);
    const xlow = logx ? Math.min(...positive) : Math.min(0, ...xs);
    const xhigh = Math.max(...xs);
    const box = { left: 46, right: width - (wide ? 150 : 10), top: 26, bottom: height - 44 };
    const sx = (logx ? logarithmic : linear)(xlow, xhigh, box.left, box.right);
    const sy = (logy ? logarithmic : linear)(logy ? Math.max(low - pad, low * 0.95) : low - pad, high + pad, box.bottom, box.top);

    for (const tick of sy.ticks(6)) {
      svg.append(element("line", { class: "grid", x1: box.left, x2: box.right, y1: sy(tick), y2: sy(tick) }));
      svg.append(element("text", { x: box.left - 8, y: sy(tick) + 4, "text-anchor": "end" }, number(tick)));
    }
    for (const tick of sx.ticks(wide ? 7 : 4)) {
      svg.append(element("line", { class: "base", x1: sx(tick), x2: sx(tick), y1: box.bottom, y2: box.bottom + 5 }));
      const anchor = sx(tick) > width - 22 ? "end" : "middle";
      svg.append(element("text", { x: anchor === "end" ? width : sx(tick), y: box.bottom + 20, "text-anchor": anchor }, number(tick)));
    }
    svg.append(element("line", { class: "base", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }));
    svg.append(element("text", { x: box.right, y: height - 6, "text-anchor": "end" }, `${axes[setting("x")]} →`));
    svg.append(element("text", { x: 0, y: 12 }, "nats a token, lower is better ↓"));

    const ends = [];
    for (const line of near) {
      const y = sy(line.value);
      svg.append(element("line", { x1: box.left, x2: box.right, y1: y, y2: y, style: `stroke:${colour(line)}`, "stroke-width": line.kind === "floor" ? 2 : 1.5, "stroke-dasharray": line.dash, "data-line": line.kind }));
      ends.push({ y, text: `${line.short} ${line.value.toFixed(2)}`, line });
    }
    for (const track of shown) {
      const at = (values) => values.map((value, i) => [sx(track.x[i]), sy(value)]).filter((_, i) => !logx || track.x[i] > 0);
      const path = (points) => "M" + points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L");
      const mean = at(track.mean);
      if (!mean.length) continue;
      if (track.seeds > 1)
        svg.append(element("path", { d: path([...at(track.high), ...at(track.low).reverse()]) + "Z", style: `fill:${colour(track)}`, "fill-opacity": 0.16 }));
      svg.append(element("path", { d: path(mean), fill: "none", style: `stroke:${colour(track)}`, "stroke-width": setting("loss") === "train" ? 1.6 : 2.2, "stroke-linejoin": "round", "stroke-dasharray": track.dash, "data-model": track.name }));
      const [x, y] = mean.at(-1);
      svg.append(element("circle", { cx: x, cy: y, r: 3.5, style: `fill:${colour(track)}` }));
      ends.push({ y, text: `${track.name}`, line: track });
    }
    if (wide) label(svg, ends, box);
    else for (const { y, text, line } of ends.filter((end) => near.includes(end.line)))
      svg.append(element("text", { x: box.right, y: y - 5, "text-anchor": "end", style: `fill:${colour(line)};paint-order:stroke;stroke:var(--paper);stroke-width:4px` }, text));
    drawn = { svg, shown, sx, box, height };
    if (cursor !== null) read(cursor);
  };

  // Labels at the right end, pushed apart where they would overlap.
  const label = (svg, ends, box) => {
    const gap = 17;
    ends.sort((a, b) => a.y - b.y);
    ends.forEach((end, i) => { end.at = Math.max(end.y, i ? ends[i - 1].at + gap : box.top); });
    const over = ends.length ? Math.max(0, ends.at(-1).at - box.bottom) : 0;
    for (let i = ends.length - 1, limit = Infinity; i >= 0 && over; i--) {
      ends[i].at = Math.min(ends[i].at, limit, box.bottom);
      limit = ends[i].at - gap;
    }
    for (const { y, at, text, line } of ends) {
      svg.append(element("path", { d: `M${box.right + 5} ${y}L${box.right + 14} ${at}`, style: `stroke:${colour(line)}`, "stroke-opacity": 0.6, fill: "none" }));
      svg.append(element("text", { class: "end", x: box.right + 18, y: at + 4, style: `fill:${colour(line)}` }, text.length > 20 ? text.slice(0, 19) + "…" : text));
    }
  };

  // ---- reading values -----------------------------------------------------------------------------------------------

  const nearest = (track, x) => track.x.reduce((best, value, i) => (Math.abs(value - x) < Math.abs(track.x[best] - x) ? i : best), 0);

  const read = (x) => {
    drawn.svg.querySelector(".cross")?.remove();
    cursor = x;
    const at = drawn.sx(x);
    drawn.svg.append(element("line", { class: "cross", x1: at, x2: at, y1: drawn.box.top, y2: drawn.box.bottom }));
    const rows = drawn.shown.map((track) => ({ track, i: nearest(track, x) })).sort((a, b) => a.track.mean[a.i] - b.track.mean[b.i]);
    const table = document.createElement("table");
    table.createCaption().textContent = `${number(x)} ${axes[setting("x")]}`;
    for (const { track, i } of rows) {
      const row = table.insertRow();
      const name = row.insertCell();
      const chip = document.createElement("i");
      chip.style.background = colour(track);
      name.append(chip, track.name);
      row.insertCell().textContent = track.mean[i].toFixed(3);
      if (track.seeds > 1) row.insertCell().textContent = `${track.low[i].toFixed(2)} – ${track.high[i].toFixed(2)}`;
    }
    readout.replaceChildren(table);
    readout.hidden = false;
    const room = chart.clientWidth - readout.offsetWidth;
    readout.style.left = `${Math.max(0, Math.min(room, at > drawn.box.right / 2 ? at - readout.offsetWidth - 14 : at + 14))}px`;
    return rows.map(({ track, i }) => `${track.name} ${track.mean[i].toFixed(3)}`).join(", ");
  };
  const stop = () => {
    cursor = null;
    readout.hidden = true;
    drawn?.svg.querySelector(".cross")?.remove();
  };
  // Every x at which some shown curve was measured, in order.
  const stations = () => [...new Set(drawn.shown.flatMap((t) => t.x))].sort((a, b) => a - b);

  chart.addEventListener("pointermove", (event) => {
    if (!drawn) return;
    const x = event.clientX - chart.getBoundingClientRect().left;
    read(stations().reduce((best, value) => (Math.abs(drawn.sx(value) - x) < Math.abs(drawn.sx(best) - x) ? value : best)));
  });
  chart.addEventListener("pointerleave", stop);
  chart.addEventListener("blur", stop);
  chart.addEventListener("keydown", (event) => {
    if (!drawn) return;
    const all = stations();
    const here = cursor === null ? (event.key === "ArrowLeft" ? all.length : -1) : all.indexOf(cursor);
    const to = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: all.length - 1 }[event.key];
    if (event.key === "Escape") return stop();
    if (to === undefined) return;
    event.preventDefault();
    const x = all[Math.max(0, Math.min(all.length - 1, to))];
    says.textContent = `${number(x)} ${axes[setting("x")]}: ${read(x)}`;
  });

  // ---- legend and controls ------------------------------------------------------------------------------------------

  for (const one of [...data.models.filter((m) => m.validation.step.length || m.train.step.length), ...data.lines]) {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-pressed", "true");
    const swatch = element("svg", { width: 26, height: 8, "aria-hidden": "true" });
    swatch.append(element("line", { x1: 0, x2: 26, y1: 4, y2: 4, style: `stroke:${colour(one)}`, "stroke-width": 2.4, "stroke-dasharray": one.dash }));
    button.append(swatch, one.label ?? one.name);
    button.addEventListener("click", () => {
      if (!hidden.delete(one.name)) hidden.add(one.name);
      button.setAttribute("aria-pressed", String(!hidden.has(one.name)));
      draw();
    });
    legend.append(button);
  }
  form.addEventListener("change", () => { cursor = null; readout.hidden = true; draw(); });
  new ResizeObserver(draw).observe(chart);
})();
