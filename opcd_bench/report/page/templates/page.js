"use strict";
(() => {
  const byId = (id) => document.getElementById(id);

  // A link into something folded unfolds it.
  const unfold = () => {
    const target = byId(decodeURIComponent(location.hash.slice(1)));
    for (let fold = target?.closest("details"); fold; fold = fold.parentElement.closest("details")) {
      fold.open = true;
    }
  };
  window.addEventListener("hashchange", unfold);
  unfold();

  // Curves against steps or tokens -----------------------------------------------------------

  const curves = document.querySelector("#curves .switch");
  if (curves) {
    const buttons = [...curves.querySelectorAll("button")];
    const show = (against) => {
      for (const button of buttons) {
        button.setAttribute("aria-pressed", String(button.dataset.curves === against));
      }
      for (const figure of document.querySelectorAll("#curves figure")) {
        figure.hidden = !figure.classList.contains(`curves-${against}`);
      }
    };
    for (const button of buttons) button.addEventListener("click", () => show(button.dataset.curves));
    curves.hidden = false;
    show("steps");
  }
})();
