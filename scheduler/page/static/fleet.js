// What is derived of the picture: nodes in order, which of them pass the filters, sums over cards. Kept node by node.

import { CARD, POD } from "./store.js";

const natural = new Intl.Collator("en", { numeric: true });

function sumOf(row) {
  const sum = { cards: row.cards.length, memory: 0, used: 0, free: 0, faults: 0, states: {}, modes: {}, models: {} };
  for (const card of row.cards) {
    sum.memory += card[CARD.memory];
    sum.used += card[CARD.used];
    const state = card[CARD.state];
    if (state === "ok" && !card[CARD.slices]) sum.free += 1;
    if (state !== "ok" && state !== "not sliced") sum.faults += 1;
    sum.states[state] = (sum.states[state] || 0) + 1;
    sum.modes[card[CARD.mode]] = (sum.modes[card[CARD.mode]] || 0) + 1;
    sum.models[card[CARD.model]] = (sum.models[card[CARD.model]] || 0) + 1;
  }
  if (wrongWith(row)) sum.faults += 1;
  return sum;
}

// What keeps a node as a whole from taking slices, in a word and a sentence; null for a node that takes them.
export function wrongWith(row) {
  if (row.problem) return ["not read", row.problem];
  if (!row.ready) return ["not ready", "its kubelet does not report"];
  return row.open ? null : ["cordoned", "the node itself is cordoned (spec.unschedulable)"];
}

export class Fleet {
  constructor() {
    this.filters = { search: "", state: "", mode: "", model: "" };
    this.reset(new Map());
  }

  reset(nodes) {
    this.nodes = nodes;
    this.total = null;
    this.sums = new Map();
    for (const [name, row] of nodes) this.sums.set(name, sumOf(row));
    this.order = [...nodes.keys()].sort(natural.compare);
    this.filter();
  }

  // Some nodes have changed: true where names came or went or the filters' answer may differ.
  update(names) {
    this.total = null;
    let other = false;
    for (const name of names) {
      const row = this.nodes.get(name);
      if (!row) { other = true; this.sums.delete(name); continue; }
      if (!this.sums.has(name)) other = true;
      this.sums.set(name, sumOf(row));
    }
    if (other) this.order = [...this.nodes.keys()].sort(natural.compare);
    if (other || this.active) this.filter();
    return other;
  }

  get active() {
    return Object.values(this.filters).some(Boolean);
  }

  filter() {
    this.shown = this.active ? this.order.filter((name) => this.matching(name).length) : this.order;
    this.places = new Map(this.shown.map((name, place) => [name, place]));
    this.widest = this.order.reduce((most, name) => Math.max(most, this.nodes.get(name).cards.length), 1);
  }

  // Positions of a node's cards that pass the filters.
  matching(name) {
    const row = this.nodes.get(name);
    if (!this.active) return row.cards.map((_, place) => place);
    const { search, state, mode, model } = this.filters;
    const words = search.toLowerCase();
    const ofNode = !words || name.toLowerCase().includes(words);
    const byPod = ofNode ? null : new Set(row.pods.filter((pod) => pod[POD.name].toLowerCase().includes(words)).map((pod) => pod[POD.card]));
    const found = [];
    row.cards.forEach((card, place) => {
      if (state && card[CARD.state] !== state) return;
      if (mode && card[CARD.mode] !== mode) return;
      if (model && card[CARD.model] !== model) return;
      if (!ofNode && !byPod.has(place) && !`${card[CARD.id]} ${card[CARD.model]}`.toLowerCase().includes(words)) return;
      found.push(place);
    });
    return found;
  }

  totals() {
    if (this.total) return this.total;
    const all = { nodes: this.nodes.size, cards: 0, memory: 0, used: 0, free: 0, faults: 0, states: {}, modes: {}, models: {} };
    for (const sum of this.sums.values()) {
      for (const key of ["cards", "memory", "used", "free", "faults"]) all[key] += sum[key];
      for (const key of ["states", "modes", "models"]) {
        for (const [word, some] of Object.entries(sum[key])) all[key][word] = (all[key][word] || 0) + some;
      }
    }
    this.total = all;
    return all;
  }
}
