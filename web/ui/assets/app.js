// What htmx does not do: copying, the file tree by keyboard, and no polling of a
// page that nobody sees, or in which somebody stands. Pages work without it.
"use strict";

const say = (text) => { document.getElementById("said").textContent = text; };

document.addEventListener("click", (e) => {
  const button = e.target.closest("[data-copy]");
  if (!button) return;
  const done = () => { button.textContent = "copied"; say("copied"); setTimeout(() => { button.textContent = "copy"; }, 1500); };
  const text = button.dataset.copy;
  if (navigator.clipboard) {
    navigator.clipboard.writeText(text).then(done, () => say("the browser did not allow it"));
    return;
  }
  const area = document.createElement("textarea"); // plain HTTP has no clipboard
  area.value = text;
  area.className = "unseen";
  document.body.append(area);
  area.select();
  if (document.execCommand("copy")) done();
  area.remove();
  button.focus();
});

// Who stands in it with the keyboard, or is about to copy from it, would lose the place.
const stoodIn = (x) => {
  const marked = getSelection();
  return x.contains(document.activeElement) || (!marked.isCollapsed && marked.getRangeAt(0).intersectsNode(x));
};

document.addEventListener("htmx:beforeRequest", (e) => {
  const live = e.detail.elt;
  if (live.id === "live" && (document.hidden || stoodIn(live))) e.preventDefault();
});

document.addEventListener("htmx:beforeSwap", (e) => { // somebody may have come in since it was asked for
  const live = e.detail.target, by = e.detail.requestConfig?.elt ?? live;
  if (live.id === "live" && by.id === "live" && stoodIn(live)) e.detail.shouldSwap = false;
});

// Of a server that is gone it is said that what is shown is old.
let answered = new Date();
document.addEventListener("htmx:afterRequest", (e) => {
  const stale = document.getElementById("stale");
  if (e.detail.successful) {
    answered = new Date();
    stale.hidden = true;
  }
});
const gone = (why) => {
  const stale = document.getElementById("stale");
  if (!stale.hidden) return; // said once
  stale.hidden = false;
  stale.textContent = `sociable ${why}; what is shown is of ${answered.toLocaleTimeString()}`;
};
document.addEventListener("htmx:sendError", () => gone("does not answer"));
document.addEventListener("htmx:timeout", () => gone("does not answer"));
document.addEventListener("htmx:responseError", (e) => gone(`answers with ${e.detail.xhr.status}`));

// Whoever goes through a list of jobs stays at that place of it after a retry.
let retried = -1;
document.addEventListener("htmx:beforeRequest", (e) => {
  if (e.detail.elt.matches("#live form")) retried = [...document.querySelectorAll("#live form")].indexOf(e.detail.elt);
});
document.addEventListener("htmx:afterSettle", (e) => {
  if (retried < 0 || !e.detail.requestConfig?.elt.matches("form")) return;
  const left = document.querySelectorAll("#live form button");
  (left[Math.min(retried, left.length - 1)] ?? document.getElementById("main")).focus();
  retried = -1;
  say("1 job will be tried again");
});

document.addEventListener("keydown", (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey) return;
  if (e.key === "/" && !/^(INPUT|TEXTAREA)$/.test(e.target.tagName)) {
    const field = document.querySelector("input[type=search]");
    if (field) { e.preventDefault(); field.focus(); }
    return;
  }
  const tree = e.target.closest("#tree");
  if (!tree) return;
  const stops = [...tree.querySelectorAll("summary, .file a")].filter((x) => x.offsetParent !== null);
  const at = stops.indexOf(e.target);
  const details = e.target.tagName === "SUMMARY" ? e.target.parentElement : null;
  const go = (x) => { if (x) { e.preventDefault(); x.focus(); } };
  switch (e.key) {
    case "ArrowDown": go(stops[at + 1]); break;
    case "ArrowUp": go(stops[at - 1]); break;
    case "Home": go(stops[0]); break;
    case "End": go(stops[stops.length - 1]); break;
    case "ArrowRight":
      if (details && !details.open) { e.preventDefault(); details.open = true; } else if (details) go(stops[at + 1]);
      break;
    case "ArrowLeft":
      if (details && details.open) { e.preventDefault(); details.open = false; } else {
        go(e.target.closest("li").parentElement.closest("details")?.querySelector("summary"));
      }
  }
});
