// What people do with the dashboard, in a real browser. dashboard_test.go starts
// the proxy and says by the environment where everything is.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";

const env = (name) => process.env["DASHBOARD_" + name] ?? assert.fail(`DASHBOARD_${name} is not set`);
const require = createRequire(env("MODULES") + "/");
const { chromium } = require("playwright-core");
const shots = process.env.DASHBOARD_SHOTS;
const url = env("URL"), image = env("IMAGE");

let browser, context, page;
const faults = []; // of scripts, and of what the policy forbids

before(async () => {
  browser = await chromium.launch({ executablePath: env("CHROMIUM"), args: ["--no-sandbox", "--disable-gpu"] });
  context = await browser.newContext({ viewport: { width: 1280, height: 900 }, baseURL: url });
  await context.grantPermissions(["clipboard-read", "clipboard-write"]);
  await noteShifts(context);
  page = await watched(context);
});

after(async () => {
  await browser?.close();
  assert.deepEqual(faults, [], "the browser complained");
});

// noteShifts has pages add up how far they moved by themselves.
async function noteShifts(context) {
  await context.addInitScript(() => {
    globalThis.shifted = { by: 0, what: [] }; // Layout shifts that nobody's input caused
    const place = ({ x, y, width, height }) => [x, y, width, height].map(Math.round).join(" ");
    new PerformanceObserver((list) => {
      for (const e of list.getEntries().filter((e) => !e.hadRecentInput)) {
        globalThis.shifted.by += e.value;
        for (const s of e.sources) globalThis.shifted.what.push(`${s.node?.outerHTML?.slice(0, 80) ?? s.node?.textContent}: ${place(s.previousRect)} to ${place(s.currentRect)}`);
      }
    }).observe({ type: "layout-shift", buffered: true });
  });
}

async function watched(context) {
  const page = await context.newPage();
  page.setDefaultTimeout(60_000); // what is waited for comes; when is the machine's matter
  page.on("console", (m) => { if (m.type() === "error" && !/status of 4\d\d|htmx:sendAbort/.test(m.text())) faults.push(m.text()); });
  page.on("pageerror", (e) => faults.push(String(e)));
  page.on("request", (r) => { if (new URL(r.url()).host !== new URL(page.url() === "about:blank" ? r.url() : page.url()).host) faults.push("asked elsewhere: " + r.url()); });
  return page;
}

// unmoved keeps polls from replacing anything of this page while fn looks at it.
async function unmoved(fn) {
  await page.evaluate(() => {
    globalThis.hold = (e) => { e.detail.shouldSwap = false; };
    document.addEventListener("htmx:beforeSwap", globalThis.hold);
  });
  await fn();
  await page.evaluate(() => document.removeEventListener("htmx:beforeSwap", globalThis.hold));
}

// accessible has axe-core look, in both colour schemes.
async function accessible(what) {
  await unmoved(() => looked(what));
}

async function looked(what) {
  const axe = await readFile(require.resolve("axe-core/axe.min.js"), "utf8");
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    await page.evaluate(axe + ";0"); // not a script element: the policy would forbid it
    const found = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
    const said = found.violations.map((v) => `${v.id}: ${v.help}: ${v.nodes.map((n) => n.html + " " + (n.any[0]?.message ?? "")).slice(0, 3).join(" | ")}`);
    assert.deepEqual(said, [], `${what}, ${colorScheme}`);
  }
  await page.emulateMedia({ colorScheme: "light" });
}

// still holds that nothing moved by itself since the page was asked for.
async function still(what, page) {
  const shifted = await page.evaluate(() => globalThis.shifted);
  assert.ok(shifted.by < 0.01, `${what}: the layout shifted by ${shifted.by}:\n${shifted.what.join("\n")}`);
}

// fits holds that nothing but tables in their own frame is wider than the page,
// down to 360 pixels, and that nothing moved while it came.
async function fits(what) {
  await still(what, page);
  for (const width of [360, 768, 1920]) {
    await page.setViewportSize({ width, height: 900 });
    const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.ok(over <= 0, `${what} at ${width} px: ${over} px too wide`);
    if (shots && width === 360 && what === "overview") await shot("overview-360");
  }
  await page.setViewportSize({ width: 1280, height: 900 });
}

// spoken counts what a screen reader is told of, by role.
async function spoken() {
  const session = await page.context().newCDPSession(page);
  const { nodes } = await session.send("Accessibility.getFullAXTree");
  await session.detach();
  const roles = {};
  for (const x of nodes) if (!x.ignored) roles[x.role.value] = (roles[x.role.value] ?? 0) + 1;
  return roles;
}

async function shot(name, options = {}) {
  if (shots) await page.screenshot({ path: `${shots}/${name}.png`, ...options });
}

async function visit(path, heading) {
  const answer = await page.goto(path);
  assert.equal(answer.status(), 200, path);
  const size = (await answer.body()).length;
  assert.ok(size < 100_000, `${path} has ${size} bytes`);
  assert.match(answer.headers()["content-security-policy"], /script-src 'self'/);
  await page.getByRole("heading", { level: 1, name: heading }).waitFor();
}

// click follows a link to a page and waits until its scripts ran, too.
async function click(link) {
  await Promise.all([page.waitForEvent("load"), link.click()]);
}

test("overview: numbers, charts, live", async () => {
  await visit("/", "Overview");
  await page.getByText("Hit ratio").first().waitFor();
  await page.locator("#live").evaluate((e) => { e.dataset.old = "1"; });
  await page.waitForFunction(() => !document.getElementById("live").dataset.old); // it was replaced
  assert.equal(await page.locator("svg.plot[role=img]").count(), 6);
  await page.waitForFunction(() => [...document.querySelectorAll(".tile")].some((x) => /^Images\s+3\s+2 indexed$/.test(x.innerText.trim())));
  await accessible("overview");
  await fits("overview");
  await shot("overview");
  await page.emulateMedia({ colorScheme: "dark" });
  await shot("overview-dark");
  await page.emulateMedia({ colorScheme: "light" });
  await click(page.getByRole("link", { name: "24h" }));
  await page.waitForURL(/range=24h/);
  await page.locator(".tabs a[aria-current=true]", { hasText: "24h" }).waitFor();
});

test("a poll leaves whoever stands in the page where they are", async () => {
  await page.goto("/");
  const link = page.getByRole("link", { name: "Indexing queue" });
  // Where one is under way htmx drops this, and the next is waited for.
  const poll = () => page.evaluate(() => new Promise((done) => {
    const asked = (e) => {
      if (e.detail.elt.id !== "live") return;
      document.removeEventListener("htmx:beforeRequest", asked);
      setTimeout(() => done(!e.defaultPrevented));
    };
    document.addEventListener("htmx:beforeRequest", asked);
    htmx.ajax("GET", "/", { source: "#live", target: "#live", select: "#live", swap: "outerHTML" });
  }));
  await link.focus();
  assert.equal(await poll(), false, "it asked, and would have replaced what has the focus");
  assert.ok(await link.evaluate((x) => x === document.activeElement));
  const kept = await page.evaluate(() => { // the answer to a poll that began before somebody came in
    const live = document.querySelector("#live");
    const e = new CustomEvent("htmx:beforeSwap", { bubbles: true, detail: { target: live, shouldSwap: true } });
    live.dispatchEvent(e);
    return !e.detail.shouldSwap;
  });
  assert.ok(kept, "an answer that comes late would replace what has the focus");
  await link.evaluate((x) => x.blur());
  await page.evaluate(() => getSelection().selectAllChildren(document.querySelector("#live h2")));
  assert.equal(await poll(), false, "it asked, and would have replaced what somebody is about to copy");
  await page.evaluate(() => getSelection().removeAllRanges());
  assert.equal(await poll(), true, "it never asks again");
});

test("images: sort, search, open", async () => {
  await visit("/images", "Images");
  await page.getByRole("link", { name: "docker.io/library/redis:7.2.4" }).waitFor();
  assert.equal(await page.locator("table.images tbody tr").count(), 3);
  await accessible("images");
  await fits("images");
  await page.setViewportSize({ width: 360, height: 900 });
  for (const what of ["size", "indexed", "saved by a start", "pulls"]) {
    const box = await page.locator(`table.images tbody tr:first-child td[data-l="${what}"]`).boundingBox();
    assert.ok(box && box.x >= 0 && box.x + box.width <= 360, `${what} at 360 px: ${JSON.stringify(box)}`);
  }
  const roles = await spoken();
  assert.deepEqual([roles.table, roles.row, roles.rowheader, roles.columnheader], [1, 4, 3, 9], "a table to a screen reader at 360 px, too");
  await shot("images-360");
  await page.setViewportSize({ width: 1280, height: 900 });
  await click(page.getByRole("link", { name: "pulls" }));
  await page.waitForURL(/sort=pulls/);
  assert.match(await page.locator("table.images tbody tr").first().innerText(), /redis[\s\S]*linux\/amd64/);
  await page.locator("th[aria-sort=descending]").waitFor();
  await shot("images");
  await page.keyboard.press("/"); // to the search field
  await page.keyboard.type("WORKER");
  await page.waitForURL(/q=WORKER/);
  await page.waitForFunction(() => document.querySelectorAll("table.images tbody tr").length === 1);
  await click(page.getByRole("link", { name: "ghcr.io/acme/worker:2026-11" }));
  await page.getByRole("heading", { level: 1, name: "ghcr.io/acme/worker:2026-11" }).waitFor();
});

test("image: layers, referrers, commands", async () => {
  await visit("/images/" + image, "docker.io/library/redis:7.2.4");
  const text = await page.locator("main").innerText();
  for (const want of ["RUN make install", "too-small", "application/spdx+json", "cosign", "linux/amd64", "measured"]) assert.ok(text.includes(want), want);
  assert.equal(await page.locator("svg.stack rect").count(), 3);
  await accessible("image");
  await fits("image");
  await shot("image", { fullPage: true });
  const row = page.locator(".commands li", { hasText: "docker pull" });
  await row.getByRole("button").click();
  await page.locator("#said", { hasText: "copied" }).waitFor({ state: "attached" });
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), `docker pull ${env("REGISTRY")}/docker.io/library/redis:7.2.4`);
});

test("image: buttons by keyboard, and what they did is said", async () => {
  await visit("/images/" + image, "docker.io/library/redis:7.2.4");
  const press = async (name, said) => {
    await page.getByRole("button", { name, exact: true }).focus();
    await page.keyboard.press("Enter");
    await page.locator("#said", { hasText: said }).waitFor({ state: "attached" });
  };
  await page.evaluate(() => { globalThis.kept = true; });
  await press("Pin", /^Pinned/);
  await page.locator(".tag.pinned").waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Unpin", "the focus stays at the button");
  await accessible("image, pinned");
  await fits("image, pinned");
  await press("Refresh", /asks its upstream/);
  await press("Warm", /All of it is here/);
  await press("Unpin", /^Unpinned/);
  assert.ok(await page.evaluate(() => globalThis.kept), "no page was loaded");
});

test("image: a purge asks before, says why not, and is said", async () => {
  const other = "/images/" + env("OTHER");
  await visit(other, "docker.io/library/entrypoint:1");
  const pin = page.getByRole("button", { name: "Pin", exact: true }), ask = page.locator("details.purge summary");
  const go = page.getByRole("button", { name: "Purge docker.io/library/entrypoint:1" });
  assert.equal(await go.isVisible(), false);
  await pin.click();
  await page.getByRole("button", { name: "Unpin" }).waitFor();
  await ask.focus();
  await page.keyboard.press("Enter");
  await go.waitFor();
  await accessible("image, asked");
  await fits("image, asked");
  await click(go);
  await page.getByRole("alert").filter({ hasText: "is pinned as docker.io/library/entrypoint:1" }).waitFor();
  await page.getByRole("button", { name: "Unpin" }).click();
  await pin.waitFor();
  const late = await watched(context); // a second tab, which does not see the purge
  await late.goto(other);
  await late.getByRole("button", { name: "Refresh" }).click();
  await late.locator("#said", { hasText: "asks its upstream" }).waitFor({ state: "attached" });
  await ask.click();
  await click(go);
  await page.getByRole("heading", { level: 1, name: "Images" }).waitFor();
  const said = page.getByText(/^Purged sha256:\w{12}: /);
  await said.waitFor();
  assert.ok(await said.evaluate((x) => x === document.activeElement), "it is read out");
  assert.equal((await fetch(url + other)).status, 404);
  assert.equal(new URL(page.url()).search, "", "nothing in the address has it said");
  await page.reload();
  await page.getByRole("heading", { level: 1, name: "Images" }).waitFor();
  assert.equal(await said.count(), 0, "it is said again");
  await late.getByRole("button", { name: "Pin", exact: true }).click();
  await late.getByRole("alert").filter({ hasText: "This image is no longer here" }).waitFor();
  assert.equal(await late.locator("#said").textContent(), "", "what was said before is over");
  assert.ok(await late.locator("#stale").isHidden(), "the server is there");
  await late.locator("main").getByRole("link", { name: "Images" }).waitFor();
  await late.close();
});

test("layer: heat map, file tree by keyboard, search, download, checkpoints", async () => {
  await visit("/images/" + image, "docker.io/library/redis:7.2.4");
  await click(page.locator("table.layers tbody tr").nth(1).getByRole("link"));
  await page.getByRole("heading", { level: 1, name: "Layer" }).waitFor();
  assert.match(await page.locator("svg.heat").getAttribute("aria-label"), /^[1-9]\d* of [1-9]\d* spans? (was|were) read/);
  assert.match(await page.locator(".changes").innerText(), /added[\s\S]*changed\s*2[\s\S]*removed[\s\S]*wasted/);
  await accessible("layer");
  await fits("layer");
  const etc = page.locator("#tree summary", { hasText: "etc/" });
  await etc.focus();
  await page.keyboard.press("ArrowRight");
  await page.locator("#tree .file", { hasText: "passwd" }).waitFor();
  await page.locator("#tree .file.removed", { hasText: "motd" }).waitFor();
  await page.keyboard.press("ArrowDown");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "passwd");
  await page.keyboard.press("ArrowLeft");
  assert.match(await page.evaluate(() => document.activeElement.textContent), /etc\//);
  await shot("layer", { fullPage: true });
  const download = page.waitForEvent("download");
  await page.locator("#tree .file a", { hasText: "passwd" }).click();
  const file = await download;
  assert.equal(file.suggestedFilename(), "passwd");
  assert.equal((await readFile(await file.path())).length, 1300);
  await page.getByLabel("Search a file").fill("script");
  await page.locator("#tree .file", { hasText: "srv/<script>alert(1)</script>" }).waitFor();
  await accessible("layer, searched");
  assert.ok(await page.getByRole("region", { name: "Checkpoints" }).locator("tbody tr").count() > 1);
});

test("jobs and missing", async () => {
  await visit("/jobs", "Jobs");
  const rows = page.locator("#live tbody tr", { hasText: "no such host" });
  assert.ok(await rows.count() > 50, "there are jobs to be seen");
  await rows.first().getByRole("button", { name: /^Retry registry\.k8s\.io/ }).waitFor();
  await accessible("jobs");
  await fits("jobs");
  await shot("jobs");
  await visit("/missing", "Missing");
  await accessible("missing");
  await fits("missing");
});

test("jobs: a retry by keyboard leaves whoever pressed it at that place of the list", async () => {
  await visit("/jobs", "Jobs");
  await page.locator("#live tbody button").nth(30).focus();
  await page.evaluate(() => { globalThis.kept = true; });
  await page.keyboard.press("Enter");
  await page.locator("#said", { hasText: "1 job will be tried again" }).waitFor({ state: "attached" });
  const at = await page.evaluate(() => ({ kept: globalThis.kept, y: scrollY, place: [...document.querySelectorAll("#live tbody button")].indexOf(document.activeElement) }));
  assert.ok(at.kept && at.y > 0 && at.place === 30, JSON.stringify(at));
});

test("jobs: all are retried without a new page, and how many is said", async () => {
  await visit("/jobs", "Jobs");
  await page.evaluate(() => { globalThis.kept = true; });
  await page.getByRole("button", { name: /^Retry all/ }).focus();
  await page.keyboard.press("Enter");
  await page.locator("#said", { hasText: /\d+ jobs will be tried again/ }).waitFor({ state: "attached" });
  assert.ok(await page.evaluate(() => globalThis.kept && document.activeElement !== document.body), "a page was loaded, or the place is lost");
});

test("a server that is gone is told of, and its return", async () => {
  const other = await context.newPage(); // what the browser says of it is no fault
  other.setDefaultTimeout(60_000);
  await other.goto("/");
  await other.route("**/*", (route) => route.abort());
  await other.locator("#stale", { hasText: "does not answer" }).waitFor();
  await other.unroute("**/*");
  await other.locator("#stale").waitFor({ state: "hidden" });
  await other.close();
});

test("an error fits, too, and what is typed into Setup stays", async () => {
  await page.goto("/images/sha256:" + "a".repeat(64));
  await page.getByRole("heading", { level: 1, name: "404" }).waitFor();
  await fits("an error");
  await page.goto("/setup?client=podman");
  await page.locator("#image").fill("no/such.host/…");
  await click(page.getByRole("button", { name: "Test this proxy" }));
  await page.getByRole("alert").waitFor();
  assert.equal(await page.locator("#image").inputValue(), "no/such.host/…");
  await page.getByRole("heading", { level: 2, name: "podman" }).waitFor();
  await accessible("setup, a mistake");
});

test("setup: a client's configuration, and the test", async () => {
  await visit("/setup", "Setup");
  await accessible("setup");
  await fits("setup");
  await click(page.getByRole("link", { name: "podman, CRI-O" }));
  await page.getByRole("heading", { level: 2, name: "podman" }).waitFor();
  assert.match(await page.locator(".conf pre").first().innerText(), new RegExp(`location = "${env("REGISTRY").replaceAll(".", "\\.")}/ghcr\\.io"`));
  await click(page.getByRole("button", { name: "Test this proxy" }));
  await page.locator(".steps li").first().waitFor();
  const steps = await page.locator(".steps").innerText();
  assert.match(steps, /ok/);
  assert.doesNotMatch(steps, /^fail/m);
  await accessible("setup, tested");
  await shot("setup", { fullPage: true });
});

test("a page that comes in pieces moves nothing", async () => {
  const slow = createServer(async (request, response) => {
    const answer = await fetch(url + request.url);
    const body = Buffer.from(await answer.arrayBuffer()), kind = answer.headers.get("content-type");
    response.writeHead(answer.status, { "content-type": kind });
    const piece = kind.startsWith("text/html") ? 1500 : body.length;
    for (let at = 0; at < body.length; at += piece) {
      response.write(body.subarray(at, at + piece));
      await pause(20);
    }
    response.end();
  });
  await new Promise((listening) => slow.listen(0, "127.0.0.1", listening));
  const other = await browser.newContext({ viewport: { width: 1280, height: 900 } });
  try {
    await noteShifts(other);
    const page = await other.newPage();
    for (const path of ["/", "/images", "/images/" + image, "/jobs", "/setup"]) {
      await page.goto(`http://127.0.0.1:${slow.address().port}${path}`);
      await still(path + " in pieces", page);
    }
  } finally {
    await other.close();
    slow.close();
    slow.closeAllConnections();
  }
});

test("every page by keyboard alone", async () => {
  await visit("/", "Overview");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to the content");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Images");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { level: 1, name: "Images" }).waitFor();
});

test("without a script every page is there", async () => {
  const plain = await browser.newContext({ javaScriptEnabled: false, baseURL: url });
  const page = await plain.newPage();
  page.setDefaultTimeout(60_000);
  await page.goto("/images?q=worker");
  assert.match(await page.locator("main").innerText(), /ghcr\.io\/acme\/worker/);
  await page.goto("/images/" + image);
  assert.match(await page.locator("main").innerText(), /RUN make install/);
  await plain.close();
});

test("another site changes nothing, and reads nothing under its own name", async () => {
  for (const [path, headers, status] of [
    ["/jobs/retry", { Origin: "http://evil.example" }, 403],
    ["/jobs/retry", { "Sec-Fetch-Site": "cross-site" }, 403],
    ["/setup", { Origin: "http://evil.example" }, 403],
    [`/images/${image}/purge`, { "Sec-Fetch-Site": "cross-site" }, 403],
  ]) {
    const answer = await fetch(url + path, { method: "POST", headers: { ...headers, "Content-Type": "application/x-www-form-urlencoded" }, body: "id=" });
    assert.equal(answer.status, status, path);
  }
});

test("beyond loopback: log in, look, log out", async () => {
  const closed = env("CLOSED");
  const other = await browser.newContext({ viewport: { width: 1280, height: 900 } });
  const old = page;
  page = await watched(other);
  await page.goto(closed + "/images");
  assert.equal(new URL(page.url()).pathname, "/login");
  await accessible("login");
  await page.getByLabel("User").fill("alice");
  await page.getByLabel("Password or token").fill("wrong");
  await click(page.getByRole("button", { name: "Log in" }));
  await page.getByRole("alert").waitFor();
  assert.equal(await page.getByLabel("User").inputValue(), "alice");
  await page.getByLabel("Password or token").fill("wonderland");
  await click(page.getByRole("button", { name: "Log in" }));
  await page.getByRole("heading", { level: 1, name: "Images" }).waitFor(); // where they were going
  const [session] = await other.cookies();
  assert.ok(session.httpOnly && session.sameSite === "Lax", JSON.stringify(session));
  await click(page.getByRole("button", { name: "Log out" }));
  await page.getByRole("heading", { level: 1, name: "Log in" }).waitFor();
  await page.goto(closed + "/");
  assert.equal(new URL(page.url()).pathname, "/login");
  await other.close();
  page = old;
});
