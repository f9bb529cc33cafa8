// The page: signs in, follows, and draws what is open.

import { age, byId, clock, count, el, number } from "./text.js";
import { SECTIONS, Store, ask } from "./store.js";
import { Fleet } from "./fleet.js";
import { FleetMap, STATES } from "./map.js";
import { Detail } from "./detail.js";
import { cards, clusters, costs, faults, gangs, tenants, tiles, waiting } from "./panels.js";

const TABS = [["fleet", "Fleet"], ["waiting", "Waiting"], ["tenants", "Tenants"], ["gangs", "Gangs"], ["faults", "Faults"],
  ["costs", "Cost"], ["clusters", "Clusters"], ["what-if", "What if"]];
const NEEDS = { waiting: ["waiting", "about"], tenants: ["tenants"], gangs: ["gangs", "waiting"], faults: ["nodes"], costs: ["costs"], clusters: ["clusters"] };

const fleet = new Fleet();
const detail = new Detail(fleet);
const map = new FleetMap(fleet, (node, card) => detail.open(node, card));
const show = ({ node, place }) => { if (place !== undefined) { go("fleet"); map.set(node, place, true); } };
const panels = { waiting: waiting(), tenants: tenants(), gangs: gangs(), faults: faults(show), costs: costs(), clusters: clusters() };
const table = cards(show);
const stale = new Set();
let open = "fleet";
let asTable = false;
let started = false;
let notice = "";

const store = new Store({
  begin: (who) => begin(who),
  changed: (sections, nodes) => changed(sections, nodes),
  beat: () => beat(),
  link: (words, bad) => link(words, bad),
  old: (seconds) => old(seconds),
  signedOut: (why) => signedOut(why),
});

function view() {
  return { picture: store.picture, fleet, search: fleet.filters.search };
}

function begin(who) {
  byId("sign-in").hidden = true;
  byId("app").hidden = false;
  byId("sign-out").hidden = false;
  byId("user").textContent = who.user;
  const nothing = !who.everywhere && !who.nodes && !who.namespaces.length;
  const partly = !who.everywhere ? `You see ${count(who.namespaces.length, "namespace")} whose pods you may list${who.nodes ? "" : ", and of the cards those that their pods hold"}.` : "";
  notice = who.unsure ? "The API server does not answer, so nobody can say what you may see: nothing is shown until it does." : nothing ? "You may list the pods of no namespace that Kerf knows, so there is nothing to show." : partly;
}

function changed(sections, nodes) {
  performance.mark("kerf-update");
  if (sections.has("nodes")) {
    if (nodes === null) fleet.reset(store.picture.nodes);
    const other = nodes === null || fleet.update(nodes);
    if (other || fleet.active) { options(); map.layout(); } else map.draw();
    detail.fill();
    if (open === "fleet") fleetTable();
  }
  if (sections.has("nodes") || sections.has("costs") || sections.has("about") || sections.has("waiting")) tiles(view());
  if (sections.has("about")) about();
  for (const [name, needs] of Object.entries(NEEDS)) {
    if (needs.some((section) => sections.has(section))) stale.add(name);
  }
  fillOpen();
  if (!started) { started = true; requestAnimationFrame(() => performance.mark("kerf-first-picture")); }
  performance.measure("kerf-update", "kerf-update");
}

// Ages grow while nothing changes.
function beat() {
  Object.keys(panels).forEach((name) => stale.add(name));
  fillOpen();
  detail.fill();
}

function fillOpen() {
  if (stale.delete(open)) panels[open](view());
}

function fleetTable() {
  const total = fleet.totals();
  byId("shown").textContent = fleet.active ? `${count(fleet.shown.length, "node")} of ${number(total.nodes)} ${fleet.shown.length === 1 ? "passes" : "pass"} the filters.` : `${count(total.nodes, "node")}, ${count(total.cards, "card")}.`;
  if (asTable) table(view());
}

function about() {
  const row = store.picture.about.get("scheduler");
  byId("cluster").textContent = row?.cluster || "";
  title();
  const lost = row?.lost ? `The API server has not answered since ${clock(row.lost)}: you see what was known then. ` : "";
  const alone = row?.leads === false && !lost ? "This replica does not lead and no leader answers: plans, reservations and some reasons are missing. " : "";
  const words = lost + alone + notice;
  if (byId("notice").textContent !== words) byId("notice").textContent = words;
}

function title() {
  const words = TABS.find(([name]) => name === open)[1];
  document.title = ["Kerf", byId("cluster").textContent, words].filter(Boolean).join(" · ");
}

function link(words, bad) {
  const line = byId("link");
  if (line.textContent !== words) line.textContent = words;
  line.className = bad ? "bad" : "";
}

// Beside the status line, which is read aloud: an age that grows is not.
function old(seconds) {
  const words = seconds === null ? "" : `What you see is ${age(seconds)} old.`;
  if (byId("old").textContent !== words) byId("old").textContent = words;
}

function signedOut(why) {
  const seen = store.who;
  store.forget();
  if (seen) {
    changed(new Set(SECTIONS), null);
    Object.values(panels).forEach((fill) => fill(view()));
    table(view());
    detail.forget();
    map.forget();
    byId("what-if-answer").replaceChildren();
  }
  byId("app").hidden = true;
  byId("sign-out").hidden = true;
  byId("sign-in").hidden = false;
  byId("user").textContent = "";
  byId("sign-in-error").textContent = why;
  link("not signed in", false);
  byId("token").focus();
}

// ---- filters
function options() {
  const total = fleet.totals();
  fill("by-state", total.states, STATES);
  fill("by-mode", total.modes, {});
  fill("by-model", total.models, {});
}

function fill(id, counts, names) {
  const select = byId(id);
  const chosen = fleet.filters[id.slice(3)];  // it stays, also where no card is left of it
  const wanted = ["", ...new Set([...Object.keys(counts), ...(chosen ? [chosen] : [])].sort())];
  const words = wanted.map((value) => (value ? `${names[value] || value} (${number(counts[value] || 0)})` : "any"));
  if (select.dataset.words === words.join("|") && select.value === chosen) return;
  select.dataset.words = words.join("|");
  select.replaceChildren(...wanted.map((value, place) => el("option", { value }, words[place])));
  select.value = chosen;
}

function filter() {
  Object.assign(fleet.filters, { search: byId("search").value.trim(), state: byId("by-state").value, mode: byId("by-mode").value, model: byId("by-model").value });
  refilter();
  clearTimeout(kept);
  kept = setTimeout(keep, 300);
}

function refilter() {
  fleet.filter();
  map.box.scrollTop = 0;
  map.layout();
  fleetTable();
  Object.keys(panels).forEach((name) => stale.add(name));
  fillOpen();
}

// ---- the way back: the view is in the address, and what is searched for beside it, where no server sees it
let kept = null;
function keep() {
  history.replaceState({ ...fleet.filters }, "", `#${open}`);
}

function restore() {
  clearTimeout(kept);
  const name = location.hash.slice(1);
  const filters = history.state || {};
  for (const key of Object.keys(fleet.filters)) fleet.filters[key] = typeof filters[key] === "string" ? filters[key] : "";
  byId("search").value = fleet.filters.search;
  options();
  refilter();
  choose(TABS.some(([each]) => each === name) ? name : "fleet");
}

function go(name) {
  if (name === open) return;
  keep();
  history.pushState({ ...fleet.filters }, "", `#${name}`);
  choose(name);
}

// ---- tabs
function choose(name) {
  open = name;
  title();
  for (const [each] of TABS) {
    byId(each).hidden = each !== name;
    const tab = byId(`tab-${each}`);
    tab.setAttribute("aria-selected", String(each === name));
    tab.tabIndex = each === name ? 0 : -1;
  }
  byId("filters").hidden = name === "what-if";
  for (const each of ["by-state", "by-mode", "by-model"]) byId(each).parentElement.hidden = name !== "fleet";
  if (name === "fleet") { map.layout(); fleetTable(); }
  fillOpen();
}

function tabs() {
  const list = byId("tabs");
  list.append(...TABS.map(([name, words]) => el("button", { type: "button", role: "tab", id: `tab-${name}`, "aria-controls": name, onclick: () => go(name) }, words)));
  list.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -1, ArrowRight: 1 };
    const place = TABS.findIndex(([name]) => name === open);
    let next = event.key in steps ? place + steps[event.key] : event.key === "Home" ? 0 : event.key === "End" ? TABS.length - 1 : -1;
    if (next === -1 && !(event.key in steps)) return;
    next = (next + TABS.length) % TABS.length;
    choose(TABS[next][0]);
    keep();
    byId(`tab-${TABS[next][0]}`).focus();
    event.preventDefault();
  });
}

// ---- theme
const THEMES = ["system", "light", "dark"];
const dark = matchMedia("(prefers-color-scheme: dark)");
function theme(step) {
  let kept = "system";
  try { kept = localStorage.getItem("kerf-theme") || "system"; } catch { /* storage may be off */ }
  if (step) {
    kept = THEMES[(THEMES.indexOf(kept) + 1) % THEMES.length];
    try { localStorage.setItem("kerf-theme", kept); } catch { /* for this page alone */ }
  }
  document.documentElement.dataset.theme = kept === "system" ? (dark.matches ? "dark" : "light") : kept;
  byId("theme").textContent = `Theme: ${kept}`;
  map.colours();
}

// ---- what if
async function tryIt(event) {
  event.preventDefault();
  const answer = byId("what-if-answer");
  answer.replaceChildren(el("p", { class: "quiet" }, "Trying …"));
  try {
    const found = await ask("api/what-if", { yaml: byId("yaml").value }, 120000);  // a minute of work, and others before it
    if (found.error) { answer.replaceChildren(el("p", { class: "bad" }, found.error)); return; }
    const lines = found.pods.map((pod) => el("li", {}, el("b", {}, pod.pod), pod.node ? ` fits on ${pod.node}` : ` ${pod.why || "needs no card"}`,
      pod.slices?.length ? el("ul", {}, ...pod.slices.map(([card, mib, cores]) => el("li", {}, `${card}: ${mib} MiB${cores ? `, ${cores} %` : ""}`))) : null));
    answer.replaceChildren(
      el("p", {}, `${count(found.counts.placed, "pod")} of ${number(found.counts.all)} would get a place beside what runs now.`),
      el("ul", {}, ...lines), ...found.notes.map((note) => el("p", { class: "warn" }, note)));
  } catch (error) {
    answer.replaceChildren(el("p", { class: "bad" }, error.message));
    if (error.status === 401) signedOut("");
  }
}

async function signIn(event) {
  event.preventDefault();
  const field = byId("token");
  const token = field.value;
  byId("sign-in-error").textContent = "";
  try {
    await ask("api/sign-in", { token });
    field.value = "";
    store.open();
    byId("content").focus();
  } catch (error) {
    byId("sign-in-error").textContent = error.message;
  }
}

tabs();
restore();
addEventListener("popstate", restore);
theme();
dark.addEventListener("change", () => theme());
addEventListener("beforeprint", () => { document.documentElement.dataset.theme = "light"; map.colours(); map.drawNow(); });
addEventListener("afterprint", () => theme());
byId("theme").addEventListener("click", () => theme(1));
byId("sign-in-form").addEventListener("submit", signIn);
byId("what-if-form").addEventListener("submit", tryIt);
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("filters").addEventListener("input", filter);
byId("sign-out").addEventListener("click", async () => {
  let why = "";
  try { await ask("api/sign-out", {}); } catch { why = "The scheduler did not answer, so this browser still has its session: open the page again later and sign out."; }
  byId("yaml").value = "";
  signedOut(why);
});
for (const [id, value] of [["as-map", false], ["as-table", true]]) {
  byId(id).addEventListener("click", () => {
    asTable = value;
    byId("as-map").setAttribute("aria-pressed", String(!value));
    byId("as-table").setAttribute("aria-pressed", String(value));
    byId("map-side").hidden = value;
    byId("table-side").hidden = !value;
    if (value) fleetTable(); else map.layout();
  });
}
store.open();
