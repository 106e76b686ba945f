"use strict";
(() => {
  const PAGE = 100;
  const MILLISECONDS = 1000;
  const at = (id) => document.getElementById(id);

  /** An element with text, which is never interpreted as markup. */
  function make(tag, text, name = "") {
    const element = document.createElement(tag);
    if (text !== null && text !== undefined) element.textContent = text;
    if (name) element.className = name;
    return element;
  }

  /** An improvement with its standard error, where that is known. */
  const estimate = (row) => percent(row.improvement).replace(" %", row.improvement_error === null ? " %" : ` ± ${percent(row.improvement_error)}`);
  const percent = (value) => (value === null || value === undefined ? "–" : `${(100 * value).toFixed(1)} %`);
  const count = (value) => (value === null || value === undefined ? "–" : Number(value).toLocaleString("en"));
  const ago = (seconds) => {
    if (seconds === null || seconds === undefined) return "–";
    if (seconds < 120) return `${seconds} s ago`;
    return seconds < 7200 ? `${Math.round(seconds / 60)} min ago` : `${Math.round(seconds / 3600)} h ago`;
  };

  async function ask(path) {
    const answer = await fetch(path, { cache: "no-store" });
    if (!answer.ok) throw new Error(await answer.text());
    return answer.json();
  }

  // The list of episodes.
  let episodes = [];
  let limit = PAGE;
  const rank = (entry) => (entry.state === "playing" ? 0 : entry.state === "waiting" ? 2 : 1);

  function list() {
    const terms = at("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    const matches = episodes
      .filter((entry) => terms.every((term) => `${entry.name} ${entry.state}`.toLowerCase().includes(term)))
      .sort((one, two) => rank(one) - rank(two));
    at("episodes").replaceChildren(...matches.slice(0, limit).map((entry) => {
      const line = make("tr");
      const link = make("a", entry.name);
      link.href = `#${encodeURIComponent(entry.name)}`;
      const first = make("td");
      first.append(link);
      const state = make("td", entry.state, entry.state === "playing" ? "good" : "");
      state.title = entry.state;
      line.append(first, state, make("td", count(entry.steps)), make("td", percent(entry.dev)), make("td", percent(entry.test)),
        make("td", count(entry.tokens)), make("td", entry.money === null ? "–" : entry.money.toFixed(2)), make("td", ago(entry.updated)));
      return line;
    }));
    const playing = episodes.filter((entry) => entry.state === "playing").length;
    at("count").textContent = `${Math.min(limit, matches.length)} of ${matches.length} shown; ${playing} playing`;
    at("more").hidden = matches.length <= limit;
  }

  at("filter").addEventListener("input", () => { limit = PAGE; list(); });
  at("more").addEventListener("click", () => { limit += PAGE; list(); });

  // One episode, whose new steps are added as they come.
  let shown = "";
  let position = 0;

  /** A text in which the lines of a difference of files have colours. */
  function difference(text) {
    if (!/^@@ /m.test(text)) return make("pre", text);
    const block = make("pre");
    for (const line of text.split("\n")) {
      block.append(make("span", `${line}\n`, line.startsWith("+") ? "added" : line.startsWith("-") ? "removed" : ""));
    }
    return block;
  }

  function describe(row) {
    if (row.kind === "header" || row.kind === "footer") return make("p", row.kind === "header" ? row.text : `The end: ${row.text}.`);
    if (row.kind === "evaluation") {
      const scored = row.value !== null;
      const text = scored ? `${row.split}: ${Number(row.value.toPrecision(5))}, ${estimate(row)} of the gap${row.rung ? `; ${row.rung}` : ""}`
        : `${row.split}: ${row.outcome}: ${row.reason}`;
      return make("p", text, scored ? "score" : "score bad");
    }
    const step = make("div", null, "step");
    const title = make("p", row.title, row.error ? "bad" : "");
    title.append(make("span", `  ${row.seconds} s. ${row.status}`, "aside"));
    step.append(title);
    if (row.action) {
      const details = make("details");
      details.append(make("summary", "Its arguments"), make("pre", row.action));
      step.append(details);
    }
    step.append(difference(row.body));
    return step;
  }

  async function follow(name) {
    const answer = await ask(`episode?name=${encodeURIComponent(name)}&from=${position}`);
    if (name !== shown) return;
    const first = position === 0;
    position = answer.position;
    const below = window.innerHeight + window.scrollY >= document.body.scrollHeight - 40;
    at("rows").append(...answer.rows.map(describe));
    at("now").hidden = !answer.output;
    at("output").textContent = answer.output;
    at("trouble").textContent = answer.trouble;
    // Readers who look at the end see what comes; others stay where they are.
    if (below && answer.rows.length && !first) window.scrollTo(0, document.body.scrollHeight);
    if (answer.more) await follow(name);
  }

  async function refresh() {
    const name = decodeURIComponent(location.hash.slice(1));
    if (name !== shown) {
      [shown, position] = [name, 0];
      at("rows").replaceChildren();
      at("now").hidden = true;
      at("name").textContent = name;
    }
    at("list").hidden = name !== "";
    at("episode").hidden = name === "";
    if (name) {
      await follow(name);
    } else {
      const answer = await ask("episodes");
      at("root").textContent = answer.root;
      episodes = answer.episodes;
      at("trouble").textContent = "";
      list();
    }
  }

  let busy = false;
  async function tick() {
    if (busy || document.hidden) return;
    busy = true;
    try {
      await refresh();
    } catch (error) {
      at("trouble").textContent = `The server does not answer: ${error.message}`;
    }
    busy = false;
  }

  window.addEventListener("hashchange", tick);
  setInterval(tick, MILLISECONDS);
  tick();
})();
