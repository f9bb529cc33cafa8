// One card: what it is, who holds it, and what was held of it over the last hours.

import { age, byId, el, memory, now, svg } from "./text.js";
import { CARD, POD, ask } from "./store.js";
import { STATES } from "./map.js";
import { Table } from "./table.js";

export class Detail {
  constructor(fleet) {
    this.fleet = fleet;
    this.shown = null;
    this.facts = el("dl");
    this.history = el("div");
    this.pods = new Table("Pods that hold it", [
      { name: "Pod", of: (pod) => pod[POD.name] },
      { name: "Memory", number: true, of: (pod) => memory(pod[POD.memory]) },
      { name: "Cores", number: true, of: (pod) => (pod[POD.cores] ? `${pod[POD.cores]} %` : "") },
      { name: "State", narrow: true, of: (pod) => pod[POD.state] },
    ], "No pod that you may see holds it.");
  }

  open(node, place) {
    this.shown = { node, id: this.fleet.nodes.get(node)?.cards[place]?.[CARD.id] };
    byId("detail-body").replaceChildren(this.facts, this.pods.element, el("h3", {}, "Last hours"), this.history);
    this.fill();
    this.remember();
  }

  forget() {
    this.shown = null;
    byId("detail-title").textContent = "Card";
    byId("detail-body").replaceChildren(el("p", { class: "quiet" }, "Select a card."));
  }

  fill() {
    if (!this.shown) return;
    const row = this.fleet.nodes.get(this.shown.node);
    const place = row ? row.cards.findIndex((card) => card[CARD.id] === this.shown.id) : -1;
    if (place < 0) {
      byId("detail-title").textContent = "Card";
      byId("detail-body").replaceChildren(el("p", { class: "quiet" }, "This card is gone, or you may no longer see it."));
      this.shown = null;
      return;
    }
    const card = row.cards[place];
    byId("detail-title").textContent = `${this.shown.node}, card ${card[CARD.index]}`;
    const since = card[CARD.since] ? `, for ${age(now() - card[CARD.since])}` : "";
    const words = [
      ["Model", `${card[CARD.model]} (${card[CARD.vendor]})`],
      ["Mode", card[CARD.mode]],
      ["State", (STATES[card[CARD.state]] || card[CARD.state]) + since],
      ...(card[CARD.cause] ? [["Cause", card[CARD.cause]]] : []),
      ["Memory", `${memory(card[CARD.used])} of ${memory(card[CARD.memory])} held`],
      ["Cores", `${card[CARD.busy]} of ${card[CARD.cores]} % held`],
      ["Slices", `${card[CARD.slices]} of ${card[CARD.slots]}`],
      ["Id", card[CARD.id]],
    ];
    if (this.facts.dataset.words !== JSON.stringify(words)) {
      this.facts.dataset.words = JSON.stringify(words);
      this.facts.replaceChildren(...words.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
    }
    this.pods.show(row.pods.filter((pod) => pod[POD.card] === place).map((pod) => [pod[POD.name], pod]));
  }

  async remember() {
    const id = this.shown.id;
    this.history.replaceChildren(el("p", { class: "quiet" }, "…"));
    try {
      const { samples, may } = await ask("api/history", { card: id });
      if (this.shown?.id !== id) return;
      this.history.replaceChildren(...(may ? chart(samples) : [el("p", { class: "quiet" }, "A card's history is for those who may list nodes.")]));
    } catch (error) {
      this.history.replaceChildren(el("p", { class: "bad" }, error.message));
    }
  }
}

function chart(samples) {
  if (samples.length < 2) return [el("p", { class: "quiet" }, "There is no history yet: a sample is kept every two minutes, for six hours.")];
  const [first, last] = [samples[0][0], samples[samples.length - 1][0]];
  const line = (place) => samples.map((sample) => `${((sample[0] - first) / (last - first || 1)) * 300},${98 - Math.min(sample[place], 100) * 0.96}`).join(" ");
  const mean = (place) => Math.round(samples.reduce((sum, sample) => sum + sample[place], 0) / samples.length);
  const most = (place) => Math.max(...samples.map((sample) => sample[place]));
  const ill = samples.filter((sample) => sample[3] !== "ok").length;
  const words = `Over ${age(last - first)}: memory held ${mean(1)} % on average and ${most(1)} % at most, cores ${mean(2)} % and ${most(2)} %` +
    (ill ? `; it took no new slices in ${ill} of ${samples.length} samples.` : ".");
  return [
    svg("svg", { class: "history", viewBox: "0 0 300 100", preserveAspectRatio: "none", role: "img", "aria-label": words },
      svg("polyline", { class: "memory", points: line(1) }), svg("polyline", { class: "cores", points: line(2) })),
    el("p", { class: "quiet" }, `${words} Solid: memory; dashed: cores.`),
  ];
}
