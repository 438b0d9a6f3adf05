// The error picture and the heat maps read out the number under the pointer, or under the arrow keys.
(() => {
  "use strict";
  const read = (id) => { const found = document.getElementById(id); return found && JSON.parse(found.textContent); };
  const number = (x) => (x === null ? "not finite" : typeof x === "string" ? x : x !== 0 && (Math.abs(x) < 1e-3 || Math.abs(x) >= 1e5) ? x.toExponential(1) : String(+x.toPrecision(3)));

  // ---- the error, place by place ------------------------------------------------------------------------------------

  const errors = document.getElementById("errors"), told = read("errors-data");
  if (errors && told) {
    const svg = errors.querySelector("svg"), cursor = svg.querySelector(".cursor"), says = document.getElementById("errors-say");
    const left = Number(svg.dataset.left), width = Number(svg.dataset.width);
    let at = -1;
    const choose = (column) => {
      at = Math.max(0, Math.min(told.places.length - 1, column));
      const place = told.places[at];
      cursor.setAttribute("x", left + at * width);
      cursor.classList.add("on");
      const worst = place.positions.reduce((best, x, i) => (x !== null && (best < 0 || x === "infinite" || x > place.positions[best]) ? i : best), -1);
      says.textContent = `${place.site}: error ${number(place.error)}` + (worst >= 0 ? `, worst at position ${worst} (“${told.tokens[worst]}”)` : "") +
        `; rounding may make ${number(place.allowed)}` + (place.added === null ? "" : `; its line adds ${number(place.added)}`) +
        (place.after === null ? "" : `; with the mistakes made ${number(place.after)}`) + ".";
    };
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      const column = Math.floor(((event.clientX - box.left) * 1000 / box.width - left) / width);
      if (column >= 0 && column < told.places.length) choose(column);
    });
    errors.addEventListener("keydown", (event) => {
      const move = { ArrowRight: 1, ArrowLeft: -1, PageDown: 10, PageUp: -10 }[event.key];
      const end = { Home: 0, End: told.places.length - 1 }[event.key];
      if (move === undefined && end === undefined) return;
      event.preventDefault();
      choose(end ?? at + move);
      const box = svg.getBoundingClientRect(), x = (left + (at + 0.5) * width) * box.width / 1000;
      errors.scrollLeft = Math.max(0, x - errors.clientWidth / 2);
    });
  }

  // ---- pieces of a value: one spot in all panels of a fault --------------------------------------------------------

  for (const row of document.querySelectorAll(".panels")) {
    const data = read(`piece-data-${row.dataset.fault}`), says = document.getElementById(`piece-${row.dataset.fault}`);
    const heats = [...row.querySelectorAll(".heat")], rest = says.textContent;
    const spots = heats.map((heat) => { const spot = document.createElement("i"); spot.className = "spot"; spot.hidden = true; heat.append(spot); return spot; });
    const leave = () => { says.textContent = rest; for (const spot of spots) spot.hidden = true; };
    const show = (y, x) => {
      const [rows, columns] = [data.rows.length, data.columns.length];
      for (const spot of spots) {
        spot.hidden = false;
        Object.assign(spot.style, { left: `${100 * x / columns}%`, top: `${100 * y / rows}%`, width: `${100 / columns}%`, height: `${100 / rows}%` });
      }
      if (data.across === "key" && data.columns[x] > data.rows[y]) {
        says.textContent = `position ${data.rows[y]}, key ${data.columns[x]}: comes after it, and is not seen`;
        return;
      }
      const right = data.reference[y][x], target = data.target[y][x], after = data.after && data.after[y][x];
      says.textContent = `position ${data.rows[y]}, ${data.across} ${data.columns[x]}: reference ${number(right)}, target ${number(target)}` +
        (right !== null && target !== null ? `, difference ${number(target - right)}` : "") +
        (data.after && after !== null && target !== null ? `; with the mistake made ${number(after)}, difference ${number(target - after)}` : "");
    };
    for (const heat of heats) {
      heat.addEventListener("pointermove", (event) => {
        const box = heat.querySelector("svg").getBoundingClientRect();
        const y = Math.floor((event.clientY - box.top) / box.height * data.rows.length), x = Math.floor((event.clientX - box.left) / box.width * data.columns.length);
        if (y >= 0 && x >= 0 && y < data.rows.length && x < data.columns.length) show(y, x);
      });
      heat.addEventListener("pointerleave", leave);
    }
  }
})();
