"use strict";
(() => {
  const byId = (id) => document.getElementById(id);

  // A link into something folded unfolds it; so does one to a folded section, or to a sample.
  const unfold = () => {
    const asked = decodeURIComponent(location.hash.slice(1));
    const target = byId(asked.startsWith("example/") ? "samples" : asked);
    const part = target?.querySelector(":scope > details.part");
    if (part) part.open = true;
    for (let fold = target?.closest("details"); fold; fold = fold.parentElement.closest("details")) {
      fold.open = true;
    }
    if (part) target.scrollIntoView();
  };
  window.addEventListener("hashchange", unfold);
  unfold();

  // On paper every figure stands, and neither the samples nor the runs.
  window.addEventListener("beforeprint", () => {
    for (const part of document.querySelectorAll("details.part")) {
      if (!part.closest("#samples, #provenance")) part.open = true;
    }
  });
})();
