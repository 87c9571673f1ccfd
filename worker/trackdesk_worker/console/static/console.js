// Refreshes the parts of a page marked data-live, on pages with data-refresh. Every page works without scripts.
"use strict";
(() => {
  let pause = Number(document.documentElement.dataset.refresh || 0) * 1000;
  if (!pause) return;

  // A part that has the focus or an unfinished form is not replaced.
  const inUse = (part) =>
    part.contains(document.activeElement) ||
    [...part.querySelectorAll("input, textarea")].some((field) => field.value !== field.defaultValue) ||
    part.querySelector("details[open]") !== null;

  const refresh = async () => {
    if (document.hidden) return;
    const answer = await fetch(location.href, { cache: "no-store", redirect: "error", credentials: "same-origin" });
    if (!answer.ok) throw new Error(String(answer.status));
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of fresh.querySelectorAll("[data-live]")) {
      const here = document.getElementById(part.id);
      if (here && !inUse(here) && here.innerHTML !== part.innerHTML) here.replaceChildren(...part.childNodes);
    }
    pause = Number(fresh.documentElement.dataset.refresh || 0) * 1000;
    delete document.documentElement.dataset.stale;
  };

  const again = () => {
    if (!pause) return;
    setTimeout(() => refresh().catch(() => { document.documentElement.dataset.stale = ""; }).then(again), pause);
  };
  again();
})();
