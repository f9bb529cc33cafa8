import { keepTime, parsed } from "./text.js";

// The picture, as the server sends it: rows by section and key, changed in place. See kerf/views/page/picture.py.

export const SECTIONS = ["nodes", "waiting", "tenants", "gangs", "costs", "clusters", "about"];
// Positions in a card's and in a pod's entry: kerf/views/page/rows.py.
export const CARD = { id: 0, index: 1, vendor: 2, model: 3, mode: 4, state: 5, cause: 6, since: 7,
  memory: 8, used: 9, cores: 10, busy: 11, slots: 12, slices: 13 };
export const POD = { name: 0, state: 1, card: 2, memory: 3, cores: 4 };

const SILENT_MS = 30000;
const ANSWER_MS = 20000;
const OFFLINE = "this machine is offline; trying again once it is not …";
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
// link(words, bad), old(seconds since anything was heard | null where the picture is live), signedOut(why).
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
    this.live = false;
    this.known = 0;  // when the picture was last known to be how things are; 0 before there is any
    this.ticks = 0;
    this.pause = 1000;
    this.later = null;
    this.paused = false;
    this.leaving = null;
    setInterval(() => this.watch(), 1000);
    addEventListener("online", () => { if (!this.live && !this.paused && (this.source || this.later)) this.open(); });
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
      if (this.live) this.known = this.heard;
    });
    on("begin", (who) => { this.coming = empty(); this.who = who; keepTime(who.now); this.say("reading …", false); });
    on("rows", (change) => this.rows(change));
    on("ready", () => this.ready());
    on("beat", ({ now }) => { if (this.coming) return; keepTime(now); this.say("live", false); this.callbacks.beat(); });
    on("end", ({ why }) => { this.close(); this.callbacks.signedOut(why); });
    source.onerror = () => this.broken(source);
  }

  close() {
    if (this.source) this.source.close();
    this.source = null;
    this.coming = null;
    this.live = false;
    this.paused = false;
    clearTimeout(this.later);
    this.later = null;
  }

  say(words, bad) {
    this.live = words === "live";
    this.callbacks.link(words, bad);
    this.tellAge();
  }

  tellAge() {
    this.callbacks.old(this.live || !this.known ? null : (performance.now() - this.known) / 1000);
  }

  // Signed out: nothing of what was seen stays.
  forget() {
    this.close();
    this.picture = empty();
    this.who = null;
    this.known = 0;
    this.tellAge();
  }

  // ---- a page that nobody sees needs no updates, and leaves its connection to others
  seen() {
    clearTimeout(this.leaving);
    if (document.hidden) this.leaving = setTimeout(() => this.rest(), HIDDEN_MS);
    else this.resume();
  }

  rest() {
    if (!this.source && !this.later) return;
    this.close();
    this.paused = true;
    this.say("paused while this tab is hidden", false);
  }

  resume() {
    if (!this.paused) return;
    this.open();
    this.say("connecting …", false);
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
    this.say("live", false);
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
    this.say(navigator.onLine ? "the scheduler does not answer; trying again …" : OFFLINE, true);
    this.coming = null;
    if (source.readyState !== EventSource.CLOSED) return;
    this.close();
    try {
      const answer = await fetch("api/session", { cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS) });
      if (answer.status === 401) { this.callbacks.signedOut(this.who ? "Your session has ended: sign in again, or run kerf ui again." : ""); return; }
      if (!answer.ok) this.say(said(answer, await answer.text()), true);
    } catch { /* not reachable: tried again below */ }
    if (this.source || this.paused) return;
    this.pause = Math.min(this.pause * 2, 15000);
    this.later = setTimeout(() => (document.hidden ? this.rest() : this.open()), this.pause);
  }

  watch() {
    if (!this.live && this.known) {
      this.tellAge();
      this.ticks = (this.ticks + 1) % 5;
      if (!this.paused && !this.ticks) this.callbacks.beat();
    }
    if (!this.source || performance.now() - this.heard <= SILENT_MS) return;
    const why = this.spoken ? "" : " (a browser follows at most six visible tabs of one address)";
    this.open();
    this.say(`no word from the scheduler; trying again …${why}`, true);
  }
}

// What an answer that is none says: the scheduler's sentences are plain text, a proxy's page is not for people.
function said(answer, text) {
  const plain = (answer.headers.get("Content-Type") || "").startsWith("text/plain") ? text.trim() : "";
  return plain && plain.length <= 1000 ? plain : `the way to the scheduler answers with an error (${answer.status})`;
}

export async function ask(path, body, milliseconds = ANSWER_MS) {
  let answer, text;
  try {
    answer = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", "kerf-page": "1" },
      body: JSON.stringify(body),
      cache: "no-store",
      signal: AbortSignal.timeout(milliseconds),
    });
    text = await answer.text();
  } catch {
    throw new Error("The scheduler does not answer. Try again once it does.");
  }
  if (!answer.ok) throw Object.assign(new Error(said(answer, text)), { status: answer.status });
  return parsed(text);
}
