// Light, dark, or as the system says; the choice is remembered where the browser allows a file to remember.
(() => {
  "use strict";
  const order = ["auto", "light", "dark"];
  const says = { auto: "as the system", light: "light", dark: "dark" };
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const name = document.getElementById("theme-name");
  const remember = {
    get() { try { return localStorage.getItem("picolab-theme"); } catch { return null; } },
    set(value) { try { localStorage.setItem("picolab-theme", value); } catch { /* private mode: not remembered */ } },
  };
  const show = (theme) => {
    root.dataset.theme = theme;
    name.textContent = theme;
    button.setAttribute("aria-label", `Colour theme: ${says[theme]}`);
    // Canvases hold pixels, not colours by name: they are told to draw again.
    document.dispatchEvent(new Event("themechange"));
  };
  button.addEventListener("click", () => {
    const next = order[(order.indexOf(root.dataset.theme) + 1) % order.length];
    remember.set(next);
    show(next);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => show(root.dataset.theme));
  const kept = remember.get();
  if (order.includes(kept)) show(kept);
})();
