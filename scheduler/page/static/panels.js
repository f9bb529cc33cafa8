// The views beside the map: each is made once and filled again when its rows change and it is open.

import { age, byId, count, el, memory, now, number, percent, since } from "./text.js";
import { wrongWith } from "./fleet.js";
import { CARD } from "./store.js";
import { STATES } from "./map.js";
import { NOTHING, Table } from "./table.js";

const KIND = { ok: "ok", suspect: "warn", recovering: "warn", cordoned: "bad", "not sliced": "off" };
const has = (search, ...words) => !search || words.some((word) => String(word).toLowerCase().includes(search.toLowerCase()));
const sorted = (map, order) => [...map].sort(([a, x], [b, y]) => order(x, y) || (a < b ? -1 : 1));

export function waiting() {
  const table = new Table("Pods that wait, the most important and oldest first", [
    { name: "Pod", of: (row) => `${row.ns}/${row.name}` },
    { name: "Waits", narrow: true, of: (row) => age(since(row.created)) },
    { name: "Why", of: (row) => row.why || "not looked at yet" },
    { name: "Smallest fix", of: (row) => row.fix || (row.node ? "" : "—") },
    { name: "Plan", of: (row) => (row.node ? `${row.reserved ? "reserved" : "planned"} on ${row.node}` : "") },
  ], "No pod waits.");
  const more = el("p", { class: "quiet" });
  byId("waiting").append(el("h2", {}, "Waiting pods"), more, table.element);
  return ({ picture, search }) => {
    const about = picture.about.get("scheduler") || {};
    more.textContent = about.waiting > about.shown ? `${number(about.waiting)} pods wait; the first ${number(about.shown)} are listed.` : "";
    const rows = sorted(picture.waiting, (a, b) => b.priority - a.priority || (a.created < b.created ? -1 : a.created > b.created ? 1 : 0));
    table.show(rows.filter(([, row]) => has(search, `${row.ns}/${row.name}`, row.why, row.gang, row.node)), search);
  };
}

const AMOUNTS = [["memoryMiB", "memory", memory], ["cores", "cores", (value) => `${number(value)} %`], ["cards", "cards", number]];

function meter(entry, key, words, show) {
  const [promise, limit] = [entry.guaranteed?.[key], entry.limit?.[key]];
  const [used, borrowed, pending] = ["used", "borrowed", "pending"].map((name) => entry[name]?.[key] || 0);
  if (promise === undefined && limit === undefined && !used && !pending) return null;
  const said = [`${show(used)} used`, borrowed ? `${show(borrowed)} of it borrowed` : "", promise === undefined ? "no guarantee" : `${show(promise)} guaranteed`,
    limit === undefined ? "no limit" : `${show(limit)} at most`, pending ? `${show(pending)} asked by waiting pods` : ""];
  const line = el("div", {}, el("b", {}, words), ` ${said.filter(Boolean).join(" · ")}`);
  if (promise === undefined && limit === undefined) return el("div", { class: "meter" }, line);
  const all = Math.max(limit ?? 0, promise ?? 0, used, 1);
  const part = (kind, from, to) => {
    const made = el("i", { class: kind });
    made.style.left = `${(100 * from) / all}%`;
    made.style.width = `${(100 * Math.max(to - from, 0)) / all}%`;
    return made;
  };
  const track = el("div", { class: "track", "aria-hidden": "true" }, part("used", 0, used - borrowed), part("borrowed", used - borrowed, used));
  if (promise !== undefined) {
    const mark = el("i", { class: "mark" });
    mark.style.left = `calc(${(100 * promise) / all}% - 1px)`;
    track.append(mark);
  }
  return el("div", { class: "meter" }, line, track);
}

export function tenants() {
  const list = el("div");
  const made = new Map();  // elements that stay while their rows do: focus and what is read aloud stay with them
  byId("tenants").append(el("h2", {}, "Tenants"), el("p", { class: "quiet" }, "The line in a bar is what is guaranteed; hatched is what is borrowed."), list);
  return ({ picture, search }) => {
    const rows = sorted(picture.tenants, () => 0).filter(([name, row]) => has(search, name, ...row.namespaces));
    if (!rows.length) { list.replaceChildren(el("p", { class: "quiet" }, search ? NOTHING : "No TenantQuota that you may see.")); made.clear(); return; }
    const names = new Set(rows.map(([name]) => name));
    for (const [name, { element }] of made) if (!names.has(name)) { element.remove(); made.delete(name); }
    let next = list.firstElementChild;
    for (const [name, row] of rows) {
      const words = JSON.stringify(row);
      let known = made.get(name);
      if (known?.words !== words) {
        const element = tenant(name, row);
        if (known) { if (next === known.element) next = element; known.element.replaceWith(element); }
        known = { words, element };
        made.set(name, known);
      }
      if (known.element === next) next = next.nextElementSibling;
      else list.insertBefore(known.element, next);
    }
    while (next) { const gone = next; next = next.nextElementSibling; gone.remove(); }
  };
}

function tenant(name, row) {
  return el("article", { class: "tenant" },
    el("h3", {}, name),
    el("p", { class: "quiet" }, row.namespaces.length ? `namespaces ${row.namespaces.join(", ")}` : "no namespace that you may list"),
    ...row.classes.map((entry) => el("div", {}, el("h4", {}, entry.mode === "shared" ? entry.model : `${entry.model} (${entry.mode})`), ...AMOUNTS.map((each) => meter(entry, ...each)))),
    ...[...row.problems, ...(row.waiting || [])].map((words) => el("p", { class: "warn" }, words)));
}

export function gangs() {
  const table = new Table("Gangs: pods that start all or none", [
    { name: "Gang", of: ([key]) => key },
    { name: "Size", number: true, of: ([, row]) => (row.size ? number(row.size) : "—") },
    { name: "Running", number: true, of: ([, row]) => number(row.running) },
    { name: "Reserved", number: true, of: ([, row]) => number(row.reserved) },
    { name: "Waiting", number: true, of: ([, row]) => number(row.waiting) },
    { name: "Why it waits", of: ([, row]) => row.why },
    { name: "Nodes", of: ([, row]) => (row.nodes.length > 6 ? `${row.nodes.slice(0, 6).join(", ")} and ${row.nodes.length - 6} more` : row.nodes.join(", ")) },
  ], "No gang runs or waits.");
  const plan = new Table("Places that a plan has for waiting pods", [
    { name: "Pod", of: (row) => `${row.ns}/${row.name}` },
    { name: "Node", of: (row) => row.node },
    { name: "Place", narrow: true, of: (row) => (row.reserved ? "reserved" : "planned") },
    { name: "Gang", of: (row) => row.gang },
  ], "No plan has a place for a waiting pod.");
  byId("gangs").append(el("h2", {}, "Gangs and plans"), table.element, plan.element);
  return ({ picture, search }) => {
    table.show(sorted(picture.gangs, (a, b) => b.waiting - a.waiting).filter(([key]) => has(search, key)).map(([key, row]) => [key, [key, row]]), search);
    plan.show([...picture.waiting].filter(([, row]) => row.node && has(search, `${row.ns}/${row.name}`, row.node)), search);
  };
}

export function faults(open) {
  const table = new Table("Cards and nodes that take no new slices", [
    { name: "Node", of: (item) => item.node },
    { name: "Card", press: (item) => (item.place === undefined ? null : () => open(item)), of: (item) => (item.card ? `card ${item.card[CARD.index]}, ${item.card[CARD.model]}` : item.cards ? `all ${item.cards}` : "none is known") },
    { name: "State", narrow: true, of: (item) => (item.card ? { text: STATES[item.card[CARD.state]] || item.card[CARD.state], class: KIND[item.card[CARD.state]] || "bad" } : { text: item.state, class: "bad" }) },
    { name: "Cause", of: (item) => (item.card ? item.card[CARD.cause] : item.words) },
    { name: "For", narrow: true, of: (item) => (item.card && item.card[CARD.since] ? age(now() - item.card[CARD.since]) : "") },
    { name: "Pods there", number: true, of: (item) => number(item.pods) },
  ], "No fault that you may see.");
  byId("faults").append(el("h2", {}, "Faults"), table.element);
  return ({ fleet, search }) => {
    const found = [];
    for (const name of fleet.order) {
      if (!fleet.sums.get(name)?.faults) continue;
      const row = fleet.nodes.get(name);
      const [state, words] = wrongWith(row) || ["", ""];
      const cards = row.cards.length;
      if (state && has(search, name, state, words)) found.push([name, { node: name, cards, place: cards ? 0 : undefined, state, words, pods: row.pods.length }]);
      row.cards.forEach((card, place) => {
        if (["ok", "not sliced"].includes(card[CARD.state]) || !has(search, name, card[CARD.id], card[CARD.cause], card[CARD.model])) return;
        found.push([`${name}/${card[CARD.id]}`, { node: name, card, place, pods: row.pods.filter((pod) => pod[2] === place).length }]);
      });
    }
    table.show(found, search);
  };
}

export function costs() {
  const total = el("p");
  const free = el("p", { class: "warn" });
  const table = new Table("By tenant, and by namespace without one", [
    { name: "Who", of: (row) => row.name },
    { name: "Kind", narrow: true, of: (row) => row.kind },
    { name: "An hour", number: true, of: (row) => money(row.per_hour, row.currency) },
    { name: "A day", number: true, of: (row) => money(24 * row.per_hour, row.currency) },
    { name: "Namespaces", of: (row) => row.namespaces.join(", ") },
  ], "Nothing that you may see costs anything now: no slices are held, or no price is known.");
  byId("costs").append(el("h2", {}, "Cost now"), total, free, el("p", { class: "quiet" }, "What the present slices and cards cost, by the price list; kerf bill has what was used."), table.element);
  return ({ picture, search }) => {
    const all = picture.costs.get("all");
    total.textContent = all ? `The cards cost ${money(all.cards, all.currency)} an hour: ${money(all.allocated, all.currency)} allocated and ${money(cents(all.cards) - cents(all.allocated), all.currency)} idle.` : "What the cards cost is shown to those who may list nodes.";
    free.textContent = all?.free.length ? `These cost nothing here, because no row of the price list means them, or their row says 0: ${all.free.join(", ")}.` : "";
    table.show([...picture.costs].filter(([key, row]) => key !== "all" && has(search, row.name, ...row.namespaces)).sort(([, a], [, b]) => b.per_hour - a.per_hour), search);
  };
}

const cents = (amount) => Math.round(100 * amount) / 100; // what is shown adds up
export const money = (amount, currency) => `${cents(amount).toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 })} ${currency}`;

export function clusters() {
  const table = new Table("The fleet's clusters, as its manager sees them", [
    { name: "Cluster", of: (row) => row.name },
    { name: "Region", narrow: true, of: (row) => row.region },
    { name: "Supply", narrow: true, of: (row) => row.supply },
    { name: "Phase", of: (row) => ({ text: [row.phase, row.cordoned ? "cordoned" : "", row.draining ? "draining" : ""].filter(Boolean).join(", "), class: row.phase === "Live" ? "ok" : "warn" }) },
    { name: "Last answer", of: (row) => [row.contact ? `${age(now() - row.contact)} ago` : "never", row.why].filter(Boolean).join(": ") },
    { name: "Reliability", number: true, of: (row) => row.reliability },
    { name: "Cards", of: (row) => row.classes.map((each) => `${each.model}: ${number(each.empty || 0)} of ${number(each.cards || 0)} empty, ${memory(each.freeMiB || 0)} free`).join("; ") },
  ], "This cluster manages no fleet, or you may not list its clusters.");
  byId("clusters").append(el("h2", {}, "Clusters"), table.element);
  return ({ picture, search }) => table.show(sorted(picture.clusters, () => 0).filter(([name, row]) => has(search, name, row.region)), search);
}

export function cards(open) {
  const table = new Table("Cards", [
    { name: "Card", press: (item) => () => open(item), of: (item) => `${item.node}, card ${item.card[CARD.index]}` },
    { name: "Model", of: (item) => item.card[CARD.model] },
    { name: "Mode", narrow: true, of: (item) => item.card[CARD.mode] },
    { name: "State", narrow: true, of: (item) => ({ text: STATES[item.card[CARD.state]] || item.card[CARD.state], class: KIND[item.card[CARD.state]] || "bad" }) },
    { name: "Memory held", number: true, of: (item) => `${memory(item.card[CARD.used])} of ${memory(item.card[CARD.memory])}` },
    { name: "Cores", number: true, of: (item) => `${item.card[CARD.busy]} of ${item.card[CARD.cores]} %` },
    { name: "Slices", number: true, of: (item) => number(item.card[CARD.slices]) },
  ], "No card passes the filters.");
  byId("table-side").append(table.element);
  return ({ fleet }) => {
    const found = [];
    for (const name of fleet.shown) {
      const row = fleet.nodes.get(name);
      for (const place of fleet.matching(name)) found.push([`${name}/${place}`, { node: name, place, card: row.cards[place] }]);
    }
    table.show(found);
  };
}

export function tiles({ fleet, picture }) {
  const all = fleet.totals();
  const cost = picture.costs.get("all");
  const about = picture.about.get("scheduler") || {};
  const found = [
    [number(all.cards), `cards on ${count(all.nodes, "node")}`],
    [`${percent(all.used, all.memory)} %`, "of their memory held"],
    [number(all.free), "cards without a slice"],
    [number(about.waiting ?? picture.waiting.size), "pods wait"],
    [number(all.faults), "faults", all.faults ? "bad" : ""],
    ...(cost ? [[money(cost.cards, cost.currency), "an hour"]] : []),
  ];
  const list = byId("tiles");
  while (list.children.length > found.length) list.lastChild.remove();
  found.forEach(([value, words, kind], place) => {
    const item = list.children[place] || list.appendChild(el("li", {}, el("b"), el("span")));
    if (item.children[0].textContent !== value) item.children[0].textContent = value;
    item.children[0].className = kind || "";
    if (item.children[1].textContent !== words) item.children[1].textContent = words;
  });
}
