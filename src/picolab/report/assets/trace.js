// The trace: one text, one place, one direction; the drawing, the slider and the panel all show the same choice.
(() => {
  "use strict";
  const source = document.getElementById("trace-data");
  if (!source) return;
  const { words, losses, sites, lens, followed } = JSON.parse(source.textContent);
  const byId = (id) => document.getElementById(id);
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  const backward = sites.filter((one) => one.gradient).reverse();
  const stops = [...sites.map((one) => ({ one, back: false })), ...backward.map((one) => ({ one, back: true }))];
  const blocks = [...new Set(sites.map((one) => one.block).filter((block) => block !== null))];
  const state = { stop: 0, word: followed, block: blocks[0] ?? null };
  const number = (x) => (x === null ? "not finite" : Math.abs(x) >= 1e5 || (x !== 0 && Math.abs(x) < 1e-3) ? x.toExponential(2) : String(+x.toPrecision(4)));

  // ---- the text -----------------------------------------------------------------------------------------------------

  const row = document.querySelector(".words-row");
  const worst = losses ? Math.max(...losses.filter((x) => x !== null)) : 0;
  row.replaceChildren(...words.map((word, i) => {
    const button = make("button", { type: "button", textContent: word });
    button.setAttribute("role", "radio");
    if (losses && losses[i] !== null && worst > 0) button.style.setProperty("--w", (losses[i] / worst).toFixed(3));
    button.addEventListener("click", () => follow(i, false));
    return button;
  }));
  const follow = (i, focus) => {
    state.word = Math.max(0, Math.min(words.length - 1, i));
    [...row.children].forEach((button, at) => {
      button.setAttribute("aria-checked", String(at === state.word));
      button.tabIndex = at === state.word ? 0 : -1;
    });
    if (focus) row.children[state.word].focus();
    const loss = losses?.[state.word];
    byId("word-says").textContent = `Position ${state.word}.` + (loss === undefined || loss === null ? "" :
      ` What comes after it cost ${number(loss)} nats: the model gave it ${(100 * Math.exp(-loss)).toPrecision(3)} %.`);
    show();
    for (const cell of document.querySelectorAll(".lens thead th")) cell.classList.toggle("followed", cell.dataset.at === String(state.word));
  };
  row.addEventListener("keydown", (event) => {
    const move = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!move) return;
    event.preventDefault();
    follow(state.word + move, true);
  });

  // ---- the drawing --------------------------------------------------------------------------------------------------

  // Where each place stands in a block (x, y, width); wires lead from place to place. What a model does not have is left out.
  const PLACES = {
    attention_norm: [250, 62, 116], "attention.q": [170, 112, 74], "attention.k": [262, 112, 74], "attention.v": [368, 112, 74],
    "attention.q_norm": [170, 156, 74], "attention.k_norm": [262, 156, 74], "attention.q_rope": [170, 200, 74], "attention.k_rope": [262, 200, 74],
    "attention.scores": [216, 250, 96], "attention.probs": [216, 296, 96], "attention.mixed": [290, 344, 110], "attention.out": [290, 390, 110],
    resid_mid: [60, 390, 86], mlp_norm: [250, 440, 116], "mlp.gate": [200, 488, 84], "mlp.up": [310, 488, 84], "mlp.act": [255, 536, 110],
    "mlp.down": [255, 582, 110], resid_post: [60, 582, 86], state: [250, 250, 116], up: [250, 180, 116], act: [250, 260, 116],
  };
  const NAMES = { attention_norm: "norm", mlp_norm: "norm", resid_mid: "stream +", resid_post: "stream +" };
  const WIRES = [
    ["attention_norm", "attention.q"], ["attention_norm", "attention.k"], ["attention_norm", "attention.v"],
    ["attention.q", "attention.q_norm", "attention.q_rope", "attention.scores"], ["attention.k", "attention.k_norm", "attention.k_rope", "attention.scores"],
    ["attention.scores", "attention.probs"], ["attention.probs", "attention.mixed"], ["attention.v", "attention.mixed"], ["attention.mixed", "attention.out"],
    ["attention.out", "resid_mid"], ["mlp_norm", "mlp.gate"], ["mlp_norm", "mlp.up"], ["mlp.gate", "mlp.act"], ["mlp.up", "mlp.act"],
    ["mlp.act", "mlp.down"], ["mlp.down", "resid_post"], ["up", "act"],
  ];
  const OUTSIDE = [["embed", 0], ["final_norm", 1], ["logits", 2], ["loss", 3]];
  const svg = (tag, attributes, ...children) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };
  const HEIGHT = 26;
  const inBlock = () => new Map(sites.filter((one) => one.block === state.block).map((one) => [one.place, one]));

  const node = (one, x, y, width, label) => {
    const group = svg("g", { class: "node", tabindex: 0, role: "button", "data-site": one.site, "aria-label": one.site });
    const face = svg("rect", { x: x - width / 2, y: y - HEIGHT / 2, width, height: HEIGHT });
    const level = svg("rect", { class: "fill", x: x - width / 2 + 4, y: y + HEIGHT / 2 - 6, height: 3, width: 0, "data-width": width - 8 });
    const text = svg("text", { x, y: y + 3 });
    text.textContent = label;
    const title = svg("title", {});
    title.textContent = one.site;
    group.append(face, level, text, title);
    const go = () => goTo(one.site);
    group.addEventListener("pointerenter", go);
    group.addEventListener("click", go);
    group.addEventListener("focus", go);
    return group;
  };
  const curve = (a, b) => svg("path", { class: "wire", d: `M${a[0]},${a[1] + HEIGHT / 2} C${a[0]},${(a[1] + b[1]) / 2} ${b[0]},${(a[1] + b[1]) / 2} ${b[0]},${b[1] - HEIGHT / 2}` });
  const draw = () => {
    const here = inBlock();
    const picture = svg("svg", { viewBox: "0 0 430 690", role: "group", "aria-label": `Block ${state.block}` });
    const decoder = here.has("resid_post");
    if (decoder) {
      picture.append(svg("path", { class: "wire stream", d: "M60,22 V640" }));
      for (const [from, to] of [[62, "attention_norm"], [440, "mlp_norm"]])
        if (here.has(to)) picture.append(svg("path", { class: "wire", d: `M60,${from - 14} C60,${from} 120,${from} ${PLACES[to][0] - PLACES[to][2] / 2},${from}` }));
    }
    for (const chain of WIRES) {
      const met = chain.filter((place) => here.has(place));
      for (let i = 0; i + 1 < met.length; i++) {
        const [a, b] = [PLACES[met[i]], PLACES[met[i + 1]]];
        picture.append(met[i + 1].startsWith("resid") ? svg("path", { class: "wire", d: `M${a[0] - a[2] / 2},${a[1]} H${b[0] + b[2] / 2}` }) : curve(a, b));
      }
    }
    for (const [place, one] of here) {
      const at = PLACES[place];
      if (at) picture.append(node(one, ...at, NAMES[place] ?? place.replace("attention.", "").replace("mlp.", "").replace("_", " ")));
    }
    OUTSIDE.forEach(([place, i]) => {
      const one = sites.find((candidate) => candidate.site === place);
      if (one) picture.append(node(one, 60 + i * 103, 660, 94, place.replace("_", " ")));
    });
    const label = svg("text", { class: "end", x: 60, y: 14 });
    label.textContent = decoder ? (state.block === blocks[0] ? "from the embedding" : `from block ${state.block - 1}`) : "";
    picture.append(label);
    byId("drawing").replaceChildren(picture);
    mark();
  };
  const mark = () => {
    const { one, back } = stops[state.stop];
    byId("drawing").classList.toggle("back", back);
    const size = (site) => (back ? site.gradient : site.value)?.rms ?? 0;
    const sizes = sites.map(size).filter((x) => x > 0).map(Math.log10);
    const [low, high] = [Math.min(...sizes), Math.max(...sizes)];
    for (const group of byId("drawing").querySelectorAll(".node")) {
      const site = sites.find((candidate) => candidate.site === group.dataset.site);
      group.classList.toggle("here", site === one);
      const level = group.querySelector(".fill"), x = size(site);
      level.setAttribute("width", x > 0 && high > low ? Math.max(2, level.dataset.width * (0.06 + 0.94 * (Math.log10(x) - low) / (high - low))) : 0);
    }
  };

  // ---- one place ----------------------------------------------------------------------------------------------------

  const show = () => {
    const { one, back } = stops[state.stop];
    const value = back ? one.gradient : one.value;
    const panel = byId("place");
    panel.classList.toggle("back", back);
    const term = (name, text) => make("div", {}, make("dt", { textContent: name }), make("dd", { textContent: text }));
    const most = Math.max(...value.tokens.map((x) => x ?? 0));
    const bars = make("div", { className: "bars", title: "size (root mean square) at every token" }, ...value.tokens.map((x, i) => {
      const bar = make("i", { className: i === state.word ? "followed" : "", title: `${words[i]}: ${number(x)}` });
      bar.style.height = `${most ? Math.max(2, (100 * (x ?? 0)) / most) : 0}%`;
      return bar;
    }));
    const few = value.few[state.word];
    panel.replaceChildren(
      make("h3", { textContent: back ? `Gradient at ${one.step?.title ?? one.what}` : one.step?.title ?? one.what }),
      make("p", { className: "site", textContent: (back ? "grad/" : "") + one.site }),
      ...(one.step?.formula && !back ? [make("p", { className: "formula", textContent: one.step.formula })] : []),
      make("p", { textContent: back ? "How much the loss would rise for a small step in each of these numbers." : one.step?.says ?? one.what }),
      make("dl", {}, term("shape", value.shape.join(" × ")), ...["mean", "std", "rms", "minimum", "maximum"].map((name) => term(name, number(value[name]))),
        ...(value.notFinite ? [term("not finite", String(value.notFinite))] : [])),
      make("p", { className: "small", textContent: `axes: ${one.dims || "its own"} · ${value.dtype}` }),
      bars,
      make("p", { className: "small", textContent: `Size at every token; the followed one is “${words[state.word]}”.` }),
      ...(few ? [make("p", { className: "few", textContent: `first numbers there: ${few.map(number).join("  ")}` })] : []),
      ...(one.step?.source && !back ? [make("p", { className: "source" }, make("code", { textContent: one.step.source }))] : []),
    );
    byId("travel-where").textContent = (back ? "grad/" : "") + one.site;
  };
  const stopAt = (index) => {
    state.stop = index;
    const { one } = stops[index];
    byId("travel").value = String(index);
    byId("travel").setAttribute("aria-valuetext", byId("travel-where").textContent);
    if (one.block !== null && one.block !== state.block) choose(one.block);
    else mark();
    show();
  };
  const goTo = (site) => {
    const { back } = stops[state.stop];
    const index = stops.findIndex((stop) => stop.one.site === site && stop.back === back);
    const other = stops.findIndex((stop) => stop.one.site === site);
    if (index >= 0 || other >= 0) stopAt(index >= 0 ? index : other);
  };
  const row2 = document.querySelector(".travel-blocks");
  const choose = (block) => {
    state.block = block;
    [...row2.children].forEach((button) => {
      const chosen = Number(button.dataset.block) === block;
      button.setAttribute("aria-checked", String(chosen));
      button.tabIndex = chosen ? 0 : -1;
    });
    draw();
  };
  row2.replaceChildren(...blocks.map((block) => {
    const button = make("button", { type: "button", textContent: `block ${block}` });
    button.setAttribute("role", "radio");
    button.dataset.block = block;
    button.addEventListener("click", () => {
      const { one, back } = stops[state.stop];
      const same = stops.findIndex((stop) => stop.back === back && stop.one.block === block && stop.one.place === one.place);
      const first = stops.findIndex((stop) => stop.back === back && stop.one.block === block);
      stopAt(same >= 0 ? same : Math.max(first, 0));
    });
    return button;
  }));
  row2.addEventListener("keydown", (event) => {
    const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!move) return;
    event.preventDefault();
    const at = [...row2.children][(blocks.indexOf(state.block) + move + blocks.length) % blocks.length];
    at.click();
    at.focus();
  });
  byId("travel").max = String(stops.length - 1);
  byId("travel").addEventListener("input", (event) => stopAt(Number(event.target.value)));

  // ---- the lens -----------------------------------------------------------------------------------------------------

  const table = document.querySelector(".lens");
  if (table && lens) {
    const head = make("tr", {}, make("th", { textContent: "" }), ...words.slice(0, lens[0].cells.length).map((word, i) => {
      const cell = make("th", { textContent: word, scope: "col" });
      cell.dataset.at = i;
      return cell;
    }));
    const last = lens[lens.length - 1].cells;
    const body = [...lens].reverse().map((line) => make("tr", {}, make("th", { textContent: line.place, scope: "row" }), ...line.cells.map((cell, i) => {
      const td = make("td", { textContent: cell.words[0], tabIndex: 0 });
      td.style.setProperty("--w", (cell.probs[0] ?? 0).toFixed(3));
      td.classList.toggle("sure", (cell.probs[0] ?? 0) > 0.7);
      td.classList.toggle("hit", cell.words[0] === last[i].words[0]);
      const says = () => { byId("lens-says").textContent = `After “${words[i]}”, at ${line.place}: ` +
        cell.words.map((word, j) => `“${word}” ${(100 * cell.probs[j]).toPrecision(3)} %`).join(", ") + `. Entropy ${number(cell.entropy)} nats.`; };
      td.addEventListener("pointerenter", says);
      td.addEventListener("focus", says);
      return td;
    })));
    table.replaceChildren(make("thead", {}, head), make("tbody", {}, ...body));
    byId("lens-says").textContent = "A cell with a border already agrees with the last block.";
  }

  if (blocks.length) choose(state.block);
  else byId("drawing").remove();
  follow(state.word, false);
  stopAt(0);
})();
