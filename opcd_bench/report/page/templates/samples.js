"use strict";
// The sample browser: reads samples/*.js on demand, by script elements, so that it works from a file.
(() => {
  const byId = (id) => document.getElementById(id);

  // Replies are other people's text: everything goes through textContent, nothing through HTML.
  const make = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "text") node.textContent = value;
      else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (value !== false && value !== undefined) node.setAttribute(name, value);
    }
    node.append(...children);
    return node;
  };

  const browser = byId("browser");
  if (!browser) return;
  const { stands, labels: inPageOrder } = JSON.parse(byId("told").textContent);
  const labels = Object.fromEntries(inPageOrder);
  const SIGNS = { c: "✓", w: "✗", u: "?", t: "…", f: "!", s: "–", "-": "" };
  const MANY = 25; // examples a page: one file
  const choice = {
    set: byId("choice-set"), rate: byId("choice-rate"), seed: byId("choice-seed"),
    outcome: byId("choice-outcome"), change: byId("choice-change"), merge: byId("choice-merge"),
  };
  const shards = new Map(); // name -> data
  const waiting = new Map(); // name -> functions to call when it comes
  const state = { index: null, set: null, off: new Set(), found: [], page: 0, at: -1 };

  const load = (name, then) => {
    if (shards.has(name)) return then(shards.get(name));
    if (waiting.has(name)) return waiting.get(name).push(then);
    waiting.set(name, [then]);
    document.head.append(make("script", {
      src: `samples/${encodeURIComponent(name)}.js`, onerror: () => failed(name, "is not there"),
    }));
  };

  const failed = (name, why) => {
    browser.hidden = false;
    byId("found").textContent = `samples/${name}.js ${why}`;
  };

  // Base64 of gzip of JSON.
  const unpacked = (text) => {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).json();
  };

  window.opcdSamples = {
    index(data) { state.index = data; begin(); },
    async shard({ name, packed }) {
      try {
        shards.set(name, await unpacked(packed));
      } catch (error) {
        return failed(name, `cannot be unpacked here: ${error.message}`);
      }
      for (const then of waiting.get(name) || []) then(shards.get(name));
      waiting.delete(name);
    },
  };

  const labelOf = (column) => {
    if (column.reading !== "method") {
      const alike = state.set.columns.filter((other) => other.reading === column.reading);
      const name = nameOf(column.reading);
      return alike.length > 1 ? `${name} (seed ${column.seed})` : name;
    }
    return `${nameOf(column.method)} · ${column.rate} · seed ${column.seed}`;
  };
  const nameOf = (owner) => labels[owner] || state.index.readings[owner] || owner;
  const ownerOf = (column) => column.method || column.reading;

  const options = (select, pairs) => {
    const before = select.value;
    select.replaceChildren(...pairs.map(([value, text]) => make("option", { value, text })));
    if (pairs.some(([value]) => value === before)) select.value = before;
  };

  function begin() {
    const { sets, letters } = state.index;
    browser.hidden = false;
    options(choice.set, sets.map((set, number) =>
      [String(number), `${set.task}: ${set.split === "test" ? "test" : set.measured}`]));
    options(choice.outcome, [["", "any"], ...Object.entries(letters)
      .filter(([letter]) => letter !== "-").map(([letter, word]) => [letter, `some column ${word}`])]);
    byId("key").textContent = Object.entries(letters).filter(([letter]) => letter !== "-")
      .map(([letter, word]) => `${SIGNS[letter]} ${word}`).join("  ");
    const asked = /^#example\/(.+)\/(\d+)$/.exec(decodeURIComponent(location.hash));
    const number = asked ? sets.findIndex((set) => set.stem === asked[1]) : -1;
    if (number >= 0) choice.set.value = String(number);
    useSet();
    if (number >= 0) {
      const place = state.found.indexOf(Number(asked[2]));
      if (place >= 0) { turnTo(place); bringExample(); }
    }
  }

  function useSet() {
    const set = state.set = state.index.sets[Number(choice.set.value)];
    const runs = set.columns.filter((column) => column.reading === "method");
    const sorted = (values) => [...new Set(values)].sort((a, b) => a - b);
    options(choice.rate, [["", "where compared"], ["all", "all learning rates"],
      ...sorted(runs.map((column) => column.rate)).map((rate) => [String(rate), String(rate)])]);
    const seeds = sorted(runs.map((column) => column.seed));
    options(choice.seed, [...seeds.map((seed) => [String(seed), String(seed)]), ["all", "all seeds"]]);
    const owners = [...new Set(inOrder(set.columns.map((_, number) => number))
      .map((number) => ownerOf(set.columns[number])))];
    const fieldset = byId("choice-methods");
    fieldset.replaceChildren(fieldset.querySelector("legend"), ...owners.map((owner) =>
      make("label", {}, make("input", {
        type: "checkbox", value: owner, checked: state.off.has(owner) ? undefined : "",
        onchange: (event) => {
          if (event.target.checked) state.off.delete(owner); else state.off.add(owner);
          filter();
        },
      }), nameOf(owner))));
    filter();
  }

  // Numbers of the columns shown: anchors first, then methods in the order of the page.
  const places = new Map(inPageOrder.map(([name], place) => [name, place]));
  const placeOf = (column) => (column.reading === "method" ? places.get(column.method) ?? Infinity : -1);
  const inOrder = (numbers) => {
    const { columns } = state.set;
    return numbers.sort((a, b) => placeOf(columns[a]) - placeOf(columns[b]) || a - b);
  };
  function shown() {
    const compared = stands[state.set.task] || {};
    return inOrder(state.set.columns.flatMap((column, number) => {
      if (state.off.has(ownerOf(column))) return [];
      if (column.reading !== "method") return [number];
      const rate = choice.rate.value;
      if (rate === "" && column.method in compared && column.rate !== compared[column.method]) return [];
      if (rate !== "" && rate !== "all" && column.rate !== Number(rate)) return [];
      if (choice.seed.value !== "all" && column.seed !== Number(choice.seed.value)) return [];
      return [number];
    }));
  }

  function filter() {
    const { columns, outcomes, items } = state.set;
    const base = columns.findIndex((column) => column.reading === "base");
    const visible = shown();
    const methods = visible.filter((number) => columns[number].reading === "method");
    const keeps = (item) => {
      const now = methods.map((number) => outcomes[number][item]).filter((letter) => letter !== "-");
      const then = base < 0 ? "-" : outcomes[base][item];
      const wanted = choice.outcome.value;
      if (wanted && !visible.some((number) => outcomes[number][item] === wanted)) return false;
      switch (choice.change.value) {
        case "methods": return new Set(now).size > 1;
        case "base": return then !== "-" && now.some((letter) => letter !== then);
        case "lost": return then === "c" && now.some((letter) => letter !== "c");
        case "gained": return then !== "-" && then !== "c" && now.includes("c");
        default: return true;
      }
    };
    const looked = state.found[state.at];
    state.found = items.map((_, item) => item).filter(keeps);
    byId("found").textContent =
      `${state.found.length} of ${items.length} examples, ${visible.length} columns`;
    const place = state.found.indexOf(looked);
    turnTo(place >= 0 ? place : 0);
  }

  function turnTo(place) {
    const inTable = byId("outcomes").contains(document.activeElement);
    state.at = state.found.length ? Math.min(Math.max(place, 0), state.found.length - 1) : -1;
    state.page = Math.max(0, Math.floor(state.at / MANY));
    drawTable();
    drawExample();
    // What had the focus may be gone or disabled by now.
    if (inTable) byId("outcomes").querySelector("[aria-pressed=true]")?.focus({ preventScroll: true });
    else if (document.activeElement.disabled) byId("example").focus({ preventScroll: true });
  }

  function bringExample() {
    const { top } = byId("example-title").getBoundingClientRect();
    if (top < 0 || top > window.innerHeight - 80) byId("example").scrollIntoView();
  }

  function drawTable() {
    const { columns, outcomes, items } = state.set;
    const visible = shown();
    const first = state.page * MANY;
    const rows = state.found.slice(first, first + MANY).map((item, offset) => {
      const current = first + offset === state.at;
      const button = make("button", {
        type: "button", text: titleOf(items[item]), "aria-pressed": String(current),
        onclick: () => { turnTo(first + offset); bringExample(); },
      });
      return make("tr", { "aria-current": current ? "true" : undefined },
        make("th", { scope: "row" }, button),
        ...visible.map((number) => {
          const letter = outcomes[number][item];
          const word = state.index.letters[letter];
          return make("td", { class: word.replace(" ", "-"), title: `${labelOf(columns[number])}: ${word}` },
            make("span", { role: "img", "aria-label": word, text: SIGNS[letter] }));
        }));
    });
    byId("outcomes").replaceChildren(
      make("thead", {}, make("tr", {}, make("th", { scope: "col", text: "example" }),
        ...visible.map((number) => make("th", { scope: "col", text: labelOf(columns[number]) })))),
      make("tbody", {}, ...rows));
    byId("page-before").disabled = state.page === 0;
    byId("page-after").disabled = first + MANY >= state.found.length;
    byId("example-before").disabled = state.at <= 0;
    byId("example-after").disabled = state.at >= state.found.length - 1;
  }

  const titleOf = ([id, sample]) => (sample ? `${id} (${sample})` : id);

  function drawExample() {
    const body = byId("example-body");
    if (state.at < 0) {
      byId("example-title").textContent = "No example is left by these choices";
      return body.replaceChildren();
    }
    const { items, columns, outcomes, stem } = state.set;
    const item = state.found[state.at];
    byId("example-title").textContent =
      `Example ${titleOf(items[item])}, ${state.at + 1} of ${state.found.length}`;
    history.replaceState(null, "", `#example/${encodeURIComponent(stem)}/${item}`);
    const set = state.set;
    load(`${stem}-${Math.floor(item / state.index.shard)}`, (shard) => {
      if (state.set !== set || state.found[state.at] !== item) return; // turned on meanwhile
      const row = shard.items[item % state.index.shard];
      const cards = shown().filter((number) => row[number] >= 0).map((number) => ({
        labels: [labelOf(columns[number])], key: row[number],
        outcome: state.index.letters[outcomes[number][item]], record: shard.records[row[number]],
      }));
      const merged = choice.merge.checked ? merge(cards) : cards;
      // What those without context read first stands above all, once where it is the same.
      const first = (record) => (record.turns.length ? JSON.stringify(record.turns[0].messages) : "");
      const without = cards.filter(({ record }) => !told(record));
      const opening = new Set(without.map(({ record }) => first(record)));
      const alike = opening.size === 1 ? [...opening][0] : null;
      body.replaceChildren(
        ...(alike ? [make("div", { class: "read" },
          make("h4", { text: without.length < cards.length
            ? "What all without context read first" : "What all of these read first" }),
          ...messages(shard, without[0].record.turns[0]))] : []),
        make("div", { class: "cards" }, ...merged.map((card) =>
          drawCard(shard, card, Boolean(alike) && first(card.record) === alike))));
    });
  }

  function merge(cards) {
    const byRecord = new Map();
    for (const card of cards) {
      const same = byRecord.get(card.key);
      if (same) same.labels.push(...card.labels); else byRecord.set(card.key, card);
    }
    return [...byRecord.values()];
  }

  // Whether some prompt of a record holds the context.
  const told = (record) => record.turns.some((turn) => turn.messages.some(([, said]) => Array.isArray(said)));

  // Parts of a message stand with an empty line between them; the context among them is marked.
  const messages = (shard, turn) => turn.messages.flatMap(([role, said]) => {
    const [at, ...parts] = Array.isArray(said) ? said : [-1, said];
    return [
      make("p", { class: "said", text: at >= 0 ? `${role}, with context` : role }),
      make("pre", {}, ...parts.flatMap((text, number) => [
        ...(number > 0 ? ["\n\n"] : []),
        number === at ? make("mark", { text: shard.texts[text] }) : shard.texts[text]]))];
  });

  function drawCard(shard, { labels, outcome, record }, alike) {
    const text = (number) => (number < 0 ? null : shard.texts[number]);
    const answer = text(record.answer);
    const why = text(record.why);
    const turns = record.turns.flatMap((turn, number) => [
      ...(record.turns.length > 1 ? [make("p", { class: "said", text: `Turn ${number + 1}` })] : []),
      ...(number === 0 && alike ? [] : messages(shard, turn)),
      make("p", { class: "said", text: turn.finish && turn.finish !== "stop"
        ? `response, ended by ${turn.finish}` : "response" }),
      make("pre", { class: "reply", text: text(turn.reply) }),
    ]);
    return make("div", { class: "card" },
      ...labels.map((label) => make("h4", { text: label })),
      make("p", {}, make("b", { class: outcome.replace(" ", "-"), text: outcome })),
      ...(answer === null ? [] : [make("p", { text: `answer: ${answer}` })]),
      ...(why === null ? [] : [make("p", { text: why })]),
      ...turns);
  }

  choice.set.addEventListener("change", () => { state.at = -1; useSet(); });
  for (const name of ["rate", "seed", "outcome", "change"]) {
    choice[name].addEventListener("change", filter);
  }
  choice.merge.addEventListener("change", drawExample);
  byId("choices").addEventListener("submit", (event) => event.preventDefault());
  byId("page-before").addEventListener("click", () => turnTo((state.page - 1) * MANY));
  byId("page-after").addEventListener("click", () => turnTo((state.page + 1) * MANY));
  byId("example-before").addEventListener("click", () => turnTo(state.at - 1));
  byId("example-after").addEventListener("click", () => turnTo(state.at + 1));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input, select, textarea") || !state.index) return;
    if (!byId("samples").contains(document.activeElement)) return;
    if (event.key === "j") { turnTo(state.at + 1); bringExample(); }
    if (event.key === "k") { turnTo(state.at - 1); bringExample(); }
  });
  load("index", () => {});
})();
