import { keepTime, parsed } from "./text.js";

// The picture, as the server sends it: rows by section and key, changed in place. See kerf/views/page/picture.py.

export const SECTIONS = ["nodes", "waiting", "tenants", "gangs", "costs", "clusters", "about"];
// Positions in a card's and in a pod's entry: kerf/views/page/rows.py.
export const CARD = { id: 0, index: 1, vendor: 2, model: 3, mode: 4, state: 5, cause: 6, since: 7,
  memory: 8, used: 9, cores: 10, busy: 11, slots: 12, slices: 13 };
export const POD = { name: 0, state: 1, card: 2, memory: 3, cores: 4 };

const SILENT_MS = 30000;
const HIDDEN_MS = 10000;  // a browser keeps six connections to one address, and each followed tab has one

export function empty() {
  return Object.fromEntries(SECTIONS.map((name) => [name, new Map()]));
}

export function apply(picture, change) {
  for (const [section, rows] of Object.entries(change)) {
    const known = picture[section];
    if (!known) continue;
    for (const [key, row] of Object.entries(rows)) {
      if (row === null) known.delete(key);
      else known.set(key, row);
    }
  }
}

// Follows the server while the page is seen. Callbacks: begin(who), changed(sections, nodeNames | null), beat(),
// link(words, bad), signedOut(why).
export class Store {
  constructor(callbacks) {
    this.callbacks = callbacks;
    this.picture = empty();
    this.coming = null;
    this.who = null;
    this.sections = new Set();
    this.nodes = new Set();
    this.all = false;
    this.due = false;
    this.source = null;
    this.heard = 0;
    this.spoken = false;
    this.pause = 1000;
    this.later = null;
    this.paused = false;
    this.leaving = null;
    setInterval(() => this.watch(), 5000);
    document.addEventListener("visibilitychange", () => this.seen());
    addEventListener("pagehide", () => this.rest());
    addEventListener("pageshow", (event) => { if (event.persisted) this.resume(); });
    this.seen();
  }

  open() {
    this.close();
    this.heard = performance.now();  // a clock that nobody sets
    this.spoken = false;
    const source = (this.source = new EventSource("api/events"));
    const on = (name, take) => source.addEventListener(name, (event) => {
      this.heard = performance.now();
      this.spoken = true;
      take(parsed(event.data));
    });
    on("begin", (who) => { this.coming = empty(); this.who = who; keepTime(who.now); });
    on("rows", (change) => this.rows(change));
    on("ready", () => this.ready());
    on("beat", ({ now }) => { keepTime(now); this.callbacks.link("live", false); if (!this.coming) this.callbacks.beat(); });
    on("end", ({ why }) => { this.close(); this.callbacks.signedOut(why); });
    source.onerror = () => this.broken(source);
  }

  close() {
    if (this.source) this.source.close();
    this.source = null;
    this.coming = null;
    this.paused = false;
    clearTimeout(this.later);
  }

  // Signed out: nothing of what was seen stays.
  forget() {
    this.close();
    this.picture = empty();
    this.who = null;
  }

  // ---- a page that nobody sees needs no updates, and leaves its connection to others
  seen() {
    clearTimeout(this.leaving);
    if (document.hidden) this.leaving = setTimeout(() => this.rest(), HIDDEN_MS);
    else this.resume();
  }

  rest() {
    if (!this.source) return;
    this.close();
    this.paused = true;
    this.callbacks.link("paused while this tab is hidden", false);
  }

  resume() {
    if (this.paused) this.open();
  }

  rows(change) {
    if (this.coming) { apply(this.coming, change); return; }
    apply(this.picture, change);
    for (const section of Object.keys(change)) this.sections.add(section);
    for (const name of Object.keys(change.nodes || {})) this.nodes.add(name);
    this.soon();
  }

  ready() {
    this.picture = this.coming || this.picture;
    this.coming = null;
    this.pause = 1000;
    this.all = true;
    SECTIONS.forEach((name) => this.sections.add(name));
    this.callbacks.begin(this.who);
    this.callbacks.link("live", false);
    this.soon();
  }

  soon() {
    if (this.due) return;
    this.due = true;
    requestAnimationFrame(() => {
      this.due = false;
      const [sections, nodes] = [this.sections, this.all ? null : this.nodes];
      this.sections = new Set(); this.nodes = new Set(); this.all = false;
      this.callbacks.changed(sections, nodes);
    });
  }

  async broken(source) {
    if (source !== this.source) return;
    this.callbacks.link("the scheduler does not answer; trying again …", true);
    if (source.readyState !== EventSource.CLOSED) return;
    this.close();
    try {
      const answer = await fetch("api/session", { cache: "no-store" });
      if (answer.status === 401) { this.callbacks.signedOut(""); return; }
      if (!answer.ok) this.callbacks.link((await answer.text()).trim(), true);
    } catch { /* not reachable: tried again below */ }
    if (this.source || this.paused) return;
    this.pause = Math.min(this.pause * 2, 15000);
    this.later = setTimeout(() => this.open(), this.pause);
  }

  watch() {
    if (!this.source || performance.now() - this.heard <= SILENT_MS) return;
    const why = this.spoken ? "" : " (a browser follows at most six visible tabs of one address)";
    this.callbacks.link(`no word from the scheduler; trying again …${why}`, true);
    this.open();
  }
}

export async function ask(path, body) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", "kerf-page": "1" },
    body: JSON.stringify(body),
    cache: "no-store",
  });
  const text = await answer.text();
  if (!answer.ok) throw Object.assign(new Error(text.trim() || `the scheduler answered ${answer.status}`), { status: answer.status });
  return parsed(text);
}
