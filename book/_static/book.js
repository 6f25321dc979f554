// What the pages do beyond HTML: theme, contents on a phone, copying code, previews, quick search.
// Nothing is fetched but the site's own search index.
(() => {
  "use strict";
  const root = document.documentElement;
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const make = (name, properties) => Object.assign(document.createElement(name), properties);
  const { sayCopy: copy = "Copy", sayCopied: copied = "Copied", sayNothing: nothing = "Nothing found." } = root.dataset;
  const word = { copy, copied, nothing };

  // Theme: the reader's choice, else the system's.
  const toggle = document.querySelector(".theme");
  toggle.hidden = false;
  toggle.addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    try { localStorage.theme = root.dataset.theme; } catch { /* private files have no storage */ }
  });

  // Contents: on narrow screens the link becomes a button that shows and hides them.
  const menu = document.querySelector(".menu");
  const contents = document.querySelector("#contents");
  menu.setAttribute("role", "button");
  menu.setAttribute("aria-expanded", "false");
  menu.setAttribute("aria-controls", "contents");
  root.classList.add("scripted");
  const show = (open) => {
    contents.classList.toggle("open", open);
    menu.setAttribute("aria-expanded", String(open));
  };
  menu.addEventListener("click", (event) => {
    event.preventDefault();
    show(!contents.classList.contains("open"));
    if (contents.classList.contains("open")) contents.querySelector("a")?.focus();
  });
  menu.addEventListener("keydown", (event) => {
    if (event.key === " ") { event.preventDefault(); menu.click(); }
  });
  contents.addEventListener("click", (event) => event.target.closest("a") && show(false));

  // Long lines of code may reach into an empty margin; what still overflows scrolls by keyboard.
  // Boxes are measured a few at a time; those that a browser has not laid out yet count as too
  // narrow until it does.
  const SCROLLS = "div.highlight pre, .table-frame, div.math, table.laws td";
  const SLICE = 6; // milliseconds; four times as long on a phone
  const overflows = (box) => box.scrollWidth > box.clientWidth;
  const waits = (box) => box.firstElementChild?.checkVisibility?.({ contentVisibilityAuto: true }) === false;
  const later = window.requestIdleCallback || ((work) => setTimeout(work, 50));
  const reach = (boxes, done) => later(() => {
    const measured = [];
    const until = performance.now() + SLICE;
    while (boxes.length && performance.now() < until) {
      const box = boxes.shift();
      measured.push([box, waits(box) || overflows(box)]);
    }
    for (const [box, over] of measured) {
      if (over) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
    if (boxes.length) reach(boxes, done);
    else done?.();
  }, { timeout: 500 });
  const widen = () => {
    if (!matchMedia("(min-width: 77rem)").matches) return;
    const notes = all("article aside.margin, article aside.sidebar").map((n) => n.getBoundingClientRect());
    const wide = all("article div.highlight").filter((block) => {
      if (!overflows(block.querySelector("pre"))) return false;
      const { top, bottom } = block.getBoundingClientRect();
      return !notes.some((note) => note.top < bottom && note.bottom > top);
    });
    wide.forEach((block) => block.classList.add("wide"));
  };
  document.fonts.ready.then(() => later(() => {
    widen();
    reach(all(SCROLLS), () => root.classList.add("settled"));
  }, { timeout: 500 }));
  addEventListener("resize", () => reach(all(SCROLLS)));
  document.addEventListener("contentvisibilityautostatechange", ({ target, skipped }) => {
    if (!skipped) reach([target, ...all(SCROLLS, target)].filter((box) => box.matches(SCROLLS)));
  }, true);
  document.addEventListener("toggle", (event) => reach(all(SCROLLS, event.target)), true);

  // Copy a block of code.
  if (navigator.clipboard) {
    for (const block of all("article div.highlight")) {
      if (block.closest(".cell_output, .output")) continue;
      const button = make("button", { type: "button", className: "copy", textContent: word.copy });
      button.addEventListener("click", async () => {
        await navigator.clipboard.writeText(block.querySelector("pre").textContent);
        button.textContent = word.copied;
        setTimeout(() => { button.textContent = word.copy; }, 1500);
      });
      block.append(button);
    }
  }

  // Cells that run in the page: all that they need is loaded when a reader first asks.
  const live = document.currentScript.src.replace("book.js", "live.js");
  const awake = (event) => {
    const button = event.target.closest?.(".live button");
    if (!button) return;
    document.removeEventListener("click", awake);
    document.head.append(make("script", { src: live, onload: () => button.click() }));
  };
  document.addEventListener("click", awake);

  // An answer that a link leads to opens.
  const reveal = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let fold = target?.closest("details"); fold; fold = fold.parentElement.closest("details")) {
      fold.open = true;
      target.scrollIntoView();
    }
  };
  addEventListener("hashchange", reveal);
  reveal();
  // Another edition opens at the same place.
  for (const link of all("a.edition")) {
    link.addEventListener("click", () => { link.hash = location.hash; });
  }
  addEventListener("beforeprint", () => all("details").forEach((fold) => { fold.open = true; }));

  // Previews of terms and citations, on hover and on focus.
  const tip = make("div", { className: "tip", role: "tooltip", id: "tip", hidden: true });
  document.body.append(tip);
  const hide = () => { tip.hidden = true; };
  for (const link of all("article a[title].internal, article a[data-tip]")) {
    const text = link.dataset.tip || link.title;
    if (!text) continue;
    link.removeAttribute("title");
    const open = () => {
      tip.textContent = text;
      tip.hidden = false;
      const place = link.getBoundingClientRect();
      const left = Math.min(place.left, innerWidth - tip.offsetWidth - 12);
      const below = place.bottom + tip.offsetHeight + 12 < innerHeight;
      tip.style.left = `${Math.max(12, left) + scrollX}px`;
      tip.style.top = `${(below ? place.bottom + 6 : place.top - tip.offsetHeight - 6) + scrollY}px`;
      link.setAttribute("aria-describedby", "tip");
    };
    link.addEventListener("mouseenter", open);
    link.addEventListener("focus", open);
    link.addEventListener("mouseleave", hide);
    link.addEventListener("blur", hide);
  }
  addEventListener("keydown", (event) => event.key === "Escape" && (hide(), show(false)));

  // The section that is being read is marked in the contents.
  const sections = new Map(all("#contents .sections > li > a[href^='#']").filter((a) => a.hash.length > 1)
    .map((a) => [document.getElementById(decodeURIComponent(a.hash.slice(1))), a]));
  sections.delete(null);
  if (sections.size) {
    const watch = new IntersectionObserver(() => {
      const passed = [...sections.keys()].filter((s) => s.getBoundingClientRect().top < 140);
      for (const link of sections.values()) link.classList.remove("here");
      if (passed.length) sections.get(passed.at(-1)).classList.add("here");
    }, { rootMargin: "-120px 0px -60% 0px", threshold: [0, 1] });
    for (const section of sections.keys()) watch.observe(section);
  }

  // Quick search: Pagefind's index where the site is served; Enter opens the full search page.
  const box = document.querySelector(".find input");
  const found = document.querySelector(".found");
  const served = "pagefind" in root.dataset && location.protocol.startsWith("http");
  addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input, textarea, [contenteditable]");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      box.focus();
    }
  });
  if (!served) return;
  let engine;
  const load = () => { engine ||= import(new URL(`${root.dataset.content_root}pagefind/pagefind.js`, location.href)); return engine; };
  box.addEventListener("focus", load, { once: true });
  let latest = 0;
  box.addEventListener("input", async () => {
    const query = box.value.trim();
    const mine = ++latest;
    if (query.length < 2) { found.hidden = true; return; }
    const search = await (await load()).search(query);
    const hits = await Promise.all(search.results.slice(0, 6).map((result) => result.data()));
    if (mine !== latest) return;
    found.replaceChildren(...hits.map((hit) => {
      const sub = hit.sub_results?.[0];
      const link = make("a", { href: sub?.url || hit.url });
      link.append(make("strong", { textContent: hit.meta.title }));
      const text = make("span", {});
      text.innerHTML = sub?.excerpt || hit.excerpt; // Pagefind escapes the page's text
      link.append(text);
      return link;
    }));
    if (!hits.length) found.replaceChildren(make("p", { textContent: word.nothing }));
    found.hidden = false;
  });
  document.addEventListener("click", (event) => { if (!event.target.closest(".find")) found.hidden = true; });
  box.addEventListener("keydown", (event) => { if (event.key === "Escape") found.hidden = true; });
})();
