"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const PAGE = 100;

  /** An element with text, which is never interpreted as markup. */
  function make(tag, text, attributes = {}) {
    const element = document.createElement(tag);
    if (text !== null && text !== undefined) element.textContent = text;
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  }

  /** An improvement in percent, with its standard error where that is known. */
  const estimate = (value, error) => percent(value) + (error === null || error === undefined ? "" : ` ± ${percent(error)}`);
  const percent = (value) => (value === null || value === undefined ? "–" : (100 * value).toFixed(1));
  const number = (value) => (value === null || value === undefined ? "–" : Number(value.toPrecision(5)).toString());
  const failures = (counts) => Object.entries(counts).map(([name, count]) => `${count} ${name}`).join(", ") || "none";

  /** Blue above the baseline, orange below; the number stays readable on both. */
  function shade(value) {
    if (value === undefined || value === null) return "";
    const strength = Math.min(1, Math.abs(value)) * 0.55;
    return value >= 0 ? `rgba(0, 114, 178, ${strength})` : `rgba(213, 94, 0, ${strength})`;
  }

  /** Fill a table whose columns can be sorted. columns: {title, value(row), show(row), shade}. */
  function sortable(table, columns, rows, fill) {
    const head = make("tr");
    const cells = columns.map((column, index) => {
      const cell = make("th", null, { scope: "col" });
      const button = make("button", column.title, { type: "button" });
      button.addEventListener("click", () => sort(index));
      cell.append(button);
      head.append(cell);
      return cell;
    });
    const body = make("tbody");
    table.replaceChildren(make("thead"), body);
    table.tHead.append(head);
    let ascending = false;
    let sorted = -1;

    function sort(index) {
      ascending = index === sorted ? !ascending : typeof columns[index].value(rows[0] ?? {}) === "string";
      sorted = index;
      const key = columns[index].value;
      rows.sort((one, two) => {
        const [a, b] = [key(one) ?? -Infinity, key(two) ?? -Infinity];
        const order = typeof a === "string" ? a.localeCompare(b) : a - b;
        return ascending ? order : -order;
      });
      cells.forEach((cell) => cell.removeAttribute("aria-sort"));
      cells[index].setAttribute("aria-sort", ascending ? "ascending" : "descending");
      fill(body);
    }
    fill(body);
  }

  function row(columns, entry) {
    const line = make("tr");
    for (const column of columns) {
      const cell = make("td");
      cell.append(column.show(entry));
      if (column.shade) cell.style.background = shade(column.value(entry));
      line.append(cell);
    }
    return line;
  }

  function plain(id, columns, rows) {
    sortable(document.getElementById(id), columns, rows, (body) =>
      body.replaceChildren(...rows.map((entry) => row(columns, entry))));
  }

  const column = (title, value, show = (entry) => number(value(entry)), extra = {}) => ({ title, value, show, ...extra });
  const named = (key, title = key) => column(title, (entry) => entry[key], (entry) => entry[key]);
  const models = (tokens, money, rows) => rows.some((entry) => entry.tokens !== null)
    ? [column(tokens, (entry) => entry.tokens), column(money, (entry) => entry.money)] : [];
  const means = data.competitions.map((name) =>
    column(name, (entry) => entry.means[name], (entry) => percent(entry.means[name])));
  plain("leaderboard", [
    named("agent"),
    column("mean", (entry) => entry.mean, (entry) => percent(entry.mean)),
    column("interquartile mean (95 %)", (entry) => entry.robust[0],
      (entry) => `${percent(entry.robust[0])} (${percent(entry.robust[1])} to ${percent(entry.robust[2])})`),
    column("success", (entry) => entry.success, (entry) => `${(100 * entry.success).toFixed(0)} %`),
    ...means,
    column("seconds per episode", (entry) => entry.seconds),
    ...models("tokens per episode", "US dollars per episode", data.rows),
    column("failures", (entry) => failures(entry.failures), (entry) => failures(entry.failures)),
  ], [...data.rows]);

  const best = Object.entries(data.best).map(([agent, scores]) => ({ agent, scores }));
  plain("heat", [
    named("agent"),
    ...data.competitions.map((name) =>
      column(name, (entry) => entry.scores[name], (entry) => percent(entry.scores[name]), { shade: true })),
  ], best);

  const kinds = [...new Set(data.episodes.map((entry) => entry.outcome))].sort();
  const outcomes = data.rows.map(({ agent }) => {
    const episodes = data.episodes.filter((entry) => entry.agent === agent);
    return { agent, counts: Object.fromEntries(kinds.map((kind) => [kind, episodes.filter((one) => one.outcome === kind).length])) };
  });
  plain("outcomes", [
    named("agent"),
    ...kinds.map((kind) => column(kind, (entry) => entry.counts[kind], (entry) => String(entry.counts[kind]))),
  ], outcomes);

  // Process metrics, if they were asked for: a heading, then a row of texts for each agent.
  const [titles, ...processes] = data.process;
  document.getElementById("working").hidden = processes.length === 0;
  const leading = (text) => (text === "-" ? null : Number.parseFloat(text));
  plain("process", titles.map((title, index) => column(title,
    (entry) => (index === 0 ? entry[0] : leading(entry[index])), (entry) => entry[index])), processes);

  // Judge studies, where there are any.
  const signed = (value) => (value === null || value === undefined ? "–" : (value > 0 ? "+" : "") + value.toFixed(2));
  const judged = data.judgements.flatMap((judgement) => judgement.correlations);
  document.getElementById("judging").hidden = judged.length === 0;
  plain("correlations", [
    named("judge"), named("variant"), named("dimension"), named("kind", "compared"),
    column("correlation (95 %)", (entry) => entry.value, (entry) => (entry.value === null ? "–"
      : `${signed(entry.value)} (${signed(entry.lower)} to ${signed(entry.upper)})`)),
    column("codes", (entry) => entry.codes),
  ], judged);
  plain("agreement", [
    named("dimension"), named("variant"),
    column("alpha between judges", (entry) => entry["between judges"], (entry) => signed(entry["between judges"])),
    column("alpha between a judge's samples", (entry) => Math.max(...Object.values(entry["between samples"])),
      (entry) => Object.entries(entry["between samples"]).map(([judge, value]) => `${judge}: ${signed(value)}`).join(", ")),
  ], data.judgements.flatMap((judgement) => judgement.agreement));

  // Episodes: filtered, shown a hundred at a time, each unpacked when it is opened.
  data.episodes.forEach((entry, index) => { entry.index = index; });
  const columns = [
    column("episode", (entry) => entry.name, (entry) => {
      const button = make("button", entry.name, { type: "button", class: "name", "aria-expanded": "false" });
      button.addEventListener("click", () => toggle(button, entry));
      return button;
    }),
    named("outcome"),
    column("score", (entry) => entry.value),
    column("improvement", (entry) => entry.improvement, (entry) => estimate(entry.improvement, entry.improvement_error), { shade: true }),
    column("success", (entry) => Number(entry.success), (entry) => (entry.success ? "yes" : "no")),
    column("evaluations", (entry) => entry.evaluations),
    column("steps", (entry) => entry.steps),
    column("seconds", (entry) => entry.seconds),
    ...models("tokens", "US dollars", data.episodes),
  ];
  const all = [...data.episodes];
  const filter = document.getElementById("filter");
  const more = document.getElementById("more");
  let limit = PAGE;
  let body = null;

  function fill(target) {
    body = target;
    const terms = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const matches = all.filter((entry) => {
      const text = `${entry.name} ${entry.agent} ${entry.competition} ${entry.outcome}`.toLowerCase();
      return terms.every((term) => text.includes(term));
    });
    body.replaceChildren(...matches.slice(0, limit).map((entry) => row(columns, entry)));
    document.getElementById("shown").textContent = `${Math.min(limit, matches.length)} of ${matches.length} shown`;
    more.hidden = matches.length <= limit;
  }
  sortable(document.getElementById("episodes"), columns, all, fill);
  filter.addEventListener("input", () => { limit = PAGE; fill(body); });
  more.addEventListener("click", () => { limit += PAGE; fill(body); });

  async function unpack(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  }

  async function toggle(button, entry) {
    const line = button.closest("tr");
    const open = line.classList.toggle("open");
    button.setAttribute("aria-expanded", String(open));
    if (!open) {
      line.nextElementSibling.remove();
      return;
    }
    const detail = make("tr");
    const cell = make("td", "…", { class: "detail", colspan: columns.length });
    detail.append(cell);
    line.after(detail);
    cell.replaceChildren(...describe(await unpack(data.packed[entry.index])));
  }

  function describe(episode) {
    const parts = [];
    if (episode.reason) parts.push(make("p", episode.reason, { class: "bad" }));
    if (episode.trouble) parts.push(make("p", episode.trouble, { class: "bad" }));
    if (episode.integrity) parts.push(make("p", episode.integrity));
    if (episode.missing?.length) parts.push(fold("What its isolation does not cover", episode.missing.join("\n")));
    if (episode.replay) parts.push(make("pre", episode.replay));
    for (const score of episode.evaluations) {
      const result = score.outcome === "scored"
        ? `${number(score.value)}, ${estimate(score.improvement, score.improvement_error)} % of the way${score.rung && `, ${score.rung}`}`
        : `${score.outcome}: ${score.reason}`;
      parts.push(make("p", `${score.split}, after step ${score.after_step}: ${result}; ${number(score.wall_seconds)} s, ` +
        `${number(score.cpu_seconds)} CPU s, ${score.memory_mb} MiB, ${score.logical_lines} logical lines`));
    }
    if (episode.process) {
      const lines = Object.entries(episode.process).map(([name, value]) => `${name.replaceAll("_", " ")}: ${number(value)}`);
      parts.push(fold("How the agent worked", lines.join("\n")));
    }
    if (episode.changes) parts.push(fold("What it changed in the starter", episode.changes));
    for (const step of episode.steps) {
      const title = `Step ${step.number}${step.error ? " (error)" : ""}: ${step.action.slice(0, 100)}`;
      const block = fold(title, step.body);
      if (step.action.length > 100) block.insertBefore(make("pre", step.action), block.lastChild);
      parts.push(block);
    }
    if (episode.left_out) parts.push(make("p", `${episode.left_out} further steps are in the record.`));
    if (episode.ending) parts.push(make("p", `Ending: ${episode.ending}`));
    return parts;
  }

  function fold(title, text) {
    const block = make("details");
    block.append(make("summary", title), make("pre", text));
    return block;
  }
})();
