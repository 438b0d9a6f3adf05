// The attention explorer: small pictures of all heads to choose from, one large, and the text itself.
(() => {
  "use strict";
  const root = document.getElementById("attention");
  if (!root) return;
  const models = JSON.parse(document.getElementById("attention-data").textContent);
  const byId = (id) => document.getElementById(id);
  const [picker, heads, map, says, text, top] =
    ["attention-model", "attention-heads", "attention-map", "attention-says", "attention-text", "attention-top"].map(byId);
  const canvas = map.querySelector("canvas");
  const cursor = map.querySelector(".cursor");
  const state = { model: 0, layer: 0, head: 0, query: 0, key: 0 };

  const model = () => models[state.model];
  const size = () => model().tokens.length;
  // A map is its lower triangle, row after row, in thousandths.
  const weight = (layer, head, query, key) => (key > query ? 0 : model().weights[layer][head][(query * (query + 1)) / 2 + key] / 1000);
  const here = (query, key) => weight(state.layer, state.head, query, key);
  const percent = (share) => (share > 0 && share < 0.001 ? "< 0.1 %" : `${(share * 100).toFixed(1)} %`);
  const shown = (token) => token.replaceAll("\n", "⏎") || "∅";

  // ---- pictures -----------------------------------------------------------------------------------------------------

  const rgb = (name) => {
    const probe = document.createElement("i");
    probe.style.color = `var(--${name})`;
    root.append(probe);
    const parts = getComputedStyle(probe).color.match(/[\d.]+/g).slice(0, 3).map(Number);
    probe.remove();
    return parts;
  };
  const paint = (target, layer, head) => {
    const n = size();
    target.width = target.height = n;
    const context = target.getContext("2d");
    const image = context.createImageData(n, n);
    const [paper, heat, hair] = [rgb("card"), rgb("heat"), rgb("hair")];
    for (let q = 0; q < n; q++)
      for (let k = 0; k < n; k++) {
        const share = Math.sqrt(weight(layer, head, q, k));
        const base = k > q ? hair : paper;
        for (let c = 0; c < 3; c++) image.data[4 * (q * n + k) + c] = Math.round(base[c] + (heat[c] - base[c]) * share);
        image.data[4 * (q * n + k) + 3] = 255;
      }
    context.putImageData(image, 0, 0);
  };

  // ---- one choice, shown in three ways ------------------------------------------------------------------------------

  const show = () => {
    const { query, key } = state, n = size(), tokens = model().tokens;
    cursor.style.cssText = `left:${(100 * key) / n}%;top:${(100 * query) / n}%;width:${100 / n}%;height:${100 / n}%`;
    const strong = (piece) => Object.assign(document.createElement("b"), { textContent: `“${shown(piece)}”` });
    says.replaceChildren(strong(tokens[query]), ` (position ${query}) reads `, strong(tokens[key]), ` (position ${key}): ${percent(here(query, key))}`);
    [...text.children].forEach((span, i) => {
      const share = here(query, i);
      span.style.setProperty("--w", Math.sqrt(share).toFixed(3));
      span.classList.toggle("strong", share > 0.36);
      span.classList.toggle("later", i > query);
      span.setAttribute("aria-selected", String(i === query));
      span.tabIndex = i === query ? 0 : -1;
    });
    const order = [...Array(query + 1).keys()].sort((a, b) => here(query, b) - here(query, a)).slice(0, 6);
    top.replaceChildren(...order.map((i) => {
      const item = document.createElement("li");
      const name = Object.assign(document.createElement("code"), { textContent: `${i}  ${shown(tokens[i])}` });
      const bar = Object.assign(document.createElement("span"), { className: "bar" });
      bar.style.width = `${100 * here(query, i)}%`;
      item.append(name, bar, Object.assign(document.createElement("span"), { className: "share", textContent: percent(here(query, i)) }));
      return item;
    }));
  };
  const look = (query, key) => {
    state.query = Math.max(0, Math.min(size() - 1, query));
    state.key = Math.max(0, Math.min(state.query, key));
    show();
  };
  // Where a token looks most: what a reader wants to see first.
  const strongest = (query) => [...Array(query + 1).keys()].reduce((best, k) => (here(query, k) > here(query, best) ? k : best), 0);

  const choose = (layer, head, focus) => {
    Object.assign(state, { layer, head });
    for (const button of heads.querySelectorAll("button")) {
      const chosen = +button.dataset.layer === layer && +button.dataset.head === head;
      button.setAttribute("aria-checked", String(chosen));
      button.tabIndex = chosen ? 0 : -1;
      if (chosen && focus) button.focus();
    }
    paint(canvas, layer, head);
    const row = [...Array(size()).keys()].map((q) => [...Array(q + 1).keys()].reduce((sum, k) => sum + here(q, k), 0));
    byId("attention-sink").textContent = Math.min(...row) < 0.97 ? ", less what the head leaves unread (its sink)" : "";
    look(state.query, strongest(state.query));
  };

  // ---- one model ----------------------------------------------------------------------------------------------------

  const open = (index) => {
    state.model = index;
    const { weights, tokens } = model();
    heads.style.setProperty("--thumb", weights[0].length > 8 ? "30px" : weights[0].length > 4 ? "38px" : "52px");
    heads.replaceChildren(...weights.map((row, layer) => {
      const line = Object.assign(document.createElement("div"), { className: "layer" });
      line.append(Object.assign(document.createElement("span"), { textContent: layer }));
      row.forEach((_, head) => {
        const button = document.createElement("button");
        button.type = "button";
        button.setAttribute("role", "radio");
        button.setAttribute("aria-label", `layer ${layer}, head ${head}`);
        button.title = `layer ${layer}, head ${head}`;
        Object.assign(button.dataset, { layer, head });
        const thumb = document.createElement("canvas");
        paint(thumb, layer, head);
        button.append(thumb);
        button.addEventListener("click", () => choose(layer, head, false));
        line.append(button);
      });
      return line;
    }));
    text.replaceChildren(...tokens.map((token, i) => {
      const span = Object.assign(document.createElement("span"), { textContent: shown(token) });
      span.setAttribute("role", "option");
      const go = () => look(i, strongest(i));
      span.addEventListener("pointerenter", go);
      span.addEventListener("focus", go);
      span.addEventListener("click", () => span.focus());
      return span;
    }));
    state.query = tokens.length - 1;
    choose(0, 0, false);
  };

  heads.addEventListener("keydown", (event) => {
    const move = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
    if (!move) return;
    event.preventDefault();
    const { weights } = model();
    const wrap = (value, n) => (value + n) % n;
    choose(wrap(state.layer + move[0], weights.length), wrap(state.head + move[1], weights[0].length), true);
  });
  map.addEventListener("keydown", (event) => {
    const move = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] }[event.key];
    if (event.key === "Home") look(state.query, 0);
    else if (event.key === "End") look(state.query, state.query);
    else if (move) look(state.query + move[0], state.key + move[1]);
    else return;
    event.preventDefault();
  });
  text.addEventListener("keydown", (event) => {
    const to = { ArrowRight: state.query + 1, ArrowLeft: state.query - 1, Home: 0, End: size() - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    text.children[Math.max(0, Math.min(size() - 1, to))].focus();
  });
  const point = (event) => {
    const box = map.getBoundingClientRect();
    const at = (offset, extent) => Math.floor((offset / extent) * size());
    look(at(event.clientY - box.top, box.height), at(event.clientX - box.left, box.width));
  };
  map.addEventListener("pointermove", point);
  map.addEventListener("pointerdown", point);
  picker.addEventListener("change", () => open(Number(picker.value)));
  document.addEventListener("themechange", () => {
    for (const button of heads.querySelectorAll("button")) paint(button.firstChild, +button.dataset.layer, +button.dataset.head);
    paint(canvas, state.layer, state.head);
  });
  open(0);
})();
