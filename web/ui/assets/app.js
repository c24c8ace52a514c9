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

// What was said of an earlier press is over with the next.
const pressed = (form) => {
  for (const old of form.closest("main")?.querySelectorAll("[data-fault], .done") ?? []) old.remove();
  say("");
};
document.addEventListener("htmx:beforeRequest", (e) => { if (e.detail.elt.matches("form[method=post]")) pressed(e.detail.elt); });

// Why something was not done stands in the image's page, or that it is no longer here
// in the page for that: it is shown.
document.addEventListener("htmx:beforeSwap", (e) => {
  if (e.detail.target.id !== "main" || !/data-fault|data-say/.test(e.detail.serverResponse)) return;
  e.detail.shouldSwap = true;
  e.detail.isError = false;
});

// What was done is said, and whoever goes through a list of jobs stays at that place of it.
const rows = "#live tbody form", main = document.getElementById("main");
let retried = -1;
document.addEventListener("htmx:beforeRequest", (e) => {
  if (e.detail.elt.matches(rows)) retried = [...document.querySelectorAll(rows)].indexOf(e.detail.elt);
});
document.addEventListener("htmx:afterSettle", (e) => {
  const said = e.target.closest("[data-say]") ?? e.target.querySelector("[data-say]");
  if (said) say(said.dataset.say);
  if (!e.detail.requestConfig?.elt.matches("form")) return;
  if (retried >= 0) {
    const left = document.querySelectorAll(rows + " button");
    (left[Math.min(retried, left.length - 1)] ?? main).focus();
    retried = -1;
  } else if (document.activeElement === document.body) main.focus();
});

// To warm an image takes a while: how far it is is read from the lines of the answer.
document.addEventListener("submit", (e) => {
  const form = e.target.closest("form[data-warm]");
  if (!form) return;
  e.preventDefault();
  if (form.ariaBusy !== "true") pressed(form), warm(form);
});
const warm = async (form) => {
  const bar = form.querySelector("progress"), page = form.action.replace(/\/warm$/, "");
  form.ariaBusy = "true";
  bar.hidden = false;
  say("what is not here of it is being fetched");
  let fault;
  try {
    fault = await fetched(form.dataset.warm, (p) => { if (p.of_bytes) bar.value = p.bytes / p.of_bytes; });
  } catch { fault = "sociable does not answer"; }
  if (!fault) {
    htmx.ajax("GET", page, { source: form, target: "#main", select: "#main > *", swap: "innerHTML", headers: { "Sociable-Warmed": "1" } });
    return;
  }
  form.ariaBusy = null;
  bar.hidden = true;
  const said = document.createElement("p");
  Object.assign(said, { className: "bad", textContent: fault, role: "alert" });
  said.dataset.fault = "";
  form.parentElement.after(said);
};
// fetched has an image brought here, and gives why it was not.
const fetched = async (name, progress) => {
  const answer = await fetch("/api/v1/warm", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ name }) });
  if (answer.status === 401) location.reload(); // to log in
  if (!answer.ok) return (await answer.json()).errors?.[0]?.message ?? `sociable answers with ${answer.status}`;
  let rest = "", last = {};
  for (const lines = answer.body.pipeThrough(new TextDecoderStream()).getReader(); ;) {
    const { done, value } = await lines.read();
    if (done) break;
    rest += value;
    const whole = rest.split("\n");
    rest = whole.pop();
    for (const line of whole) {
      last = JSON.parse(line);
      if (last.progress) progress(last.progress);
    }
  }
  return last.error ?? (last.image ? undefined : "it broke off");
};

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
