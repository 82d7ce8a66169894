// The page of runs: selectors, charts, tables and people. All text is set as text, never as HTML.
"use strict";
(() => {
  const KEYS = ["run", "faces", "target", "split", "budget", "fill"];
  const TITLES = { run: "Run", faces: "Faces", target: "Recognizer", maps: "Maps", split: "Photos",
    budget: "Budget", fill: "Fill", score: "Score" };
  const ALL = "*"; // of run: all of them
  const NONE = -(2 ** 31); // in the place of a figure that is not there
  const DASH = "\u2013", NARROW = 700, ROWS = 40;
  const PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8B5E3C",
    "#7A4FBF", "#B8A800", "#A3123F", "#0F766E", "#65A30D"];
  let page, state, drawing = 0;

  // --- files ------------------------------------------------------------------------------------

  const arrived = new Map(), files = new Map();
  window.facefocus = { put: (name, value) => (name === "page" ? (page = value) : arrived.get(name)(value)) };

  function load(name) {
    if (!files.has(name)) {
      const text = new Promise((resolve, reject) => {
        const script = document.createElement("script");
        script.src = `data/${name}.js`;
        script.onerror = () => reject(new Error(`The file data/${name}.js of this page is not there.`));
        arrived.set(name, resolve);
        document.head.append(script);
      });
      files.set(name, text.then(unpacked));
    }
    return files.get(name);
  }

  async function unpacked(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const raw = new Uint8Array(await new Response(stream).arrayBuffer());
    let at = raw.indexOf(10) + 1;
    const table = JSON.parse(new TextDecoder().decode(raw.subarray(0, at)));
    table.column = {};
    for (const column of table.columns) {
      Object.assign(column, { raw, at, rows: table.rows, shift: 32 - 8 * column.bytes,
        parts: Object.entries(column.sum ?? {}).map(([name, weight]) => [table.column[name], weight]) });
      table.column[column.name] = column;
      at += table.rows * column.bytes;
    }
    table.rest = raw.subarray(at);
    return table;
  }

  // The integer of a row, read where it is asked for: most rows never are.
  function integer(column, row) {
    let value = 0;
    for (let i = 0; i < column.bytes; i++) value |= column.raw[column.at + i * column.rows + row] << (8 * i);
    value = (value << column.shift) >> column.shift;
    if (value === NONE >> column.shift) return NONE;
    for (const [part, weight] of column.parts) value += weight * integer(part, row);
    return value;
  }

  function cell(column, row) {
    const value = integer(column, row);
    if (column.labels) return column.labels[value];
    return value === NONE ? null : value / 10 ** column.digits;
  }

  // Rows of a table as objects, those whose columns have the wanted values.
  function rowsOf(table, wanted) {
    const tests = Object.entries(wanted).filter(([name]) => table.column[name]).map(
      ([name, value]) => [table.column[name], table.column[name].labels.indexOf(value)]);
    const records = [];
    for (let row = 0; row < table.rows; row++) {
      if (!tests.every(([column, code]) => integer(column, row) === code)) continue;
      const record = {};
      for (const column of table.columns) record[column.name] = cell(column, row);
      records.push(record);
    }
    return records;
  }

  // --- state and address ------------------------------------------------------------------------

  const score = () => page.scores.find(([name]) => name === state.score) ?? page.scores[0];
  const mapsKind = () => (["own", "transferred"].includes(state.maps) ? state.maps : "transferred");

  function readAddress() {
    const asked = new URLSearchParams(location.hash.slice(1));
    state = { ...page.first, maps: "own", score: page.scores[0]?.[0], view: views()[0] };
    for (const [name, value] of asked) state[name] = name === "budget" ? Number(value) : value;
    if (!views().includes(state.view)) state.view = views()[0];
    if (!page.scores.some(([name]) => name === state.score)) state.score = page.scores[0]?.[0];
    settle([]);
  }

  function writeAddress() {
    const text = new URLSearchParams(Object.entries(state).filter(([, value]) => value !== "" && value != null));
    history.replaceState(null, "", `#${text}`);
  }

  const matches = (combination, name) =>
    name === "maps" ? combination.maps === mapsKind() : state[name] === ALL || combination[name] === state[name];

  // If nothing was tried with these settings, take those that were, and keep what was just chosen.
  function settle(kept) {
    const names = [...kept, "run", "faces", "target", "maps", "split", "fill", "budget"];
    let left = page.combinations;
    for (const name of names) {
      const some = left.filter((combination) => matches(combination, name));
      if (some.length) left = some;
    }
    const first = left[0];
    for (const name of KEYS) if (state[name] !== ALL) state[name] = first[name];
    const sources = page.sources.filter(([run, target]) =>
      (state.run === ALL || run === state.run) && target === state.target).map(([, , source]) => source);
    if (first.maps !== mapsKind() || (mapsKind() !== state.maps && !sources.includes(state.maps))) {
      state.maps = first.maps;
    }
  }

  function change(changes, kept = Object.keys(changes)) {
    Object.assign(state, changes);
    settle(kept);
    draw();
  }

  // --- text -------------------------------------------------------------------------------------

  function number(value, digits = 3) {
    if (value == null) return DASH;
    const text = value.toFixed(digits);
    return Number(text) === 0 ? text.replace("-", "") : text;
  }
  const signed = (value) => (value > 0 && Number(number(value)) > 0 ? `+${number(value)}` : number(value));
  function percent(value, digits = 1) {
    if (value == null) return DASH;
    const text = String(Number((100 * value).toFixed(digits)));
    return value > 0 && text === "0" ? `<${10 ** -digits}\u00a0%` : `${text}\u00a0%`;
  }
  const budgetText = (value) => `${Number((100 * value).toPrecision(4))}\u00a0%`;
  const interval = (row, name, text = number) =>
    row[`${name}_low`] == null ? "" : `[${text(row[`${name}_low`])}, ${text(row[`${name}_high`])}]`;

  function make(tag, properties = {}, ...children) {
    const { dataset, ...others } = properties;
    const element = Object.assign(document.createElement(tag), others);
    Object.assign(element.dataset, dataset ?? {});
    element.append(...children);
    return element;
  }
  const byId = (id) => document.getElementById(id);

  // --- rows -------------------------------------------------------------------------------------

  // The leaderboard's rows under the selectors, but for those that are free; kept for all that
  // shows them, until a selector changes.
  let kept = {};
  function boardRows(free = []) {
    const settings = JSON.stringify(Object.keys(TITLES).map((name) => state[name]));
    if (kept.settings !== settings) kept = { settings };
    return (kept[free] ??= readRows(free));
  }

  async function readRows(free) {
    const wanted = {};
    for (const name of KEYS) if (!free.includes(name) && state[name] !== ALL) wanted[name] = state[name];
    const parts = page.parts.filter((part) => Object.entries(wanted).every(
      ([name, value]) => !(name in part) || part[name] === value));
    const tables = await Promise.all(parts.map((part) => load(part.file)));
    const [name] = score();
    return tables.flatMap((table) => rowsOf(table, wanted)).filter((row) => {
      if (row.kind !== "method" || free.includes("maps")) return true;
      return row.maps === mapsKind() && (mapsKind() === state.maps || row.source === state.maps);
    }).map((row) => {
      const from = row.source !== row.target && row.kind === "method" && !free.includes("maps");
      const label = row.label + (from ? `, maps from ${row.source}` : "") +
        (state.run === ALL ? ` (${row.run})` : "");
      const moved = row.rate != null && row.excess != null && name === "rate" ? row.rate + row.excess : null;
      return Object.assign(row, { label, value: row[name], low: row[`${name}_low`] ?? row[name],
        high: row[`${name}_high`] ?? row[name], control: moved });
    });
  }

  const better = () => (score()[3] ? (a, b) => a.value - b.value : (a, b) => b.value - a.value);

  // What a chart shows: of each its best, of all its best series; colors of their own.
  async function chartRows(chart) {
    let rows;
    if (chart.rows) {
      const table = await load(chart.rows);
      const wanted = Object.fromEntries(KEYS.filter((name) => state[name] !== ALL).map(
        (name) => [name, state[name]]));
      rows = rowsOf(table, wanted);
    } else {
      rows = (await boardRows(chart.free)).filter((row) => row.value != null);
    }
    rows.sort(chart.rows ? (a, b) => b.value - a.value : better());
    if (chart.each.length) {
      const seen = new Set();
      rows = rows.filter((row) => {
        const key = JSON.stringify(chart.each.map((name) => row[name]));
        if (row.kind !== "method" || chart.each.some((name) => row[name] == null) || seen.has(key)) return false;
        return seen.add(key);
      });
    }
    if (chart.top) {
      const here = rows.filter((row) => !row.kind || (row.kind === "method" &&
        KEYS.every((name) => state[name] === ALL || row[name] === state[name])));
      const kept = new Set([...new Set(here.map((row) => row.label))].slice(0, chart.top));
      const others = [...new Set(rows.filter((row) => row.kind === "baseline").map((row) => row.label))];
      for (const label of [...others.filter((label) => label.startsWith("random")), ...others].slice(0, 3)) kept.add(label);
      rows = rows.filter((row) => kept.has(row.label) || row.kind === "oracle");
    }
    if (chart.rows) {
      const groups = (await load(chart.rows)).column.stratum?.labels ?? []; // in their own order
      rows.sort((a, b) => groups.indexOf(a.stratum) - groups.indexOf(b.stratum));
    }
    return colored(rows, chart.each.length && !chart.each.includes("layer") ? "method" : "label");
  }

  function colored(rows, by) {
    const used = new Map();
    for (const row of rows) {
      if (used.has(row[by])) continue;
      const [own, shape] = page.looks[row.method] ?? ["currentColor", "circle"];
      const color = (row.kind ?? "method") === "method" ? own : "#8a8f98";
      const taken = [...used.values()].map((entry) => entry[0]);
      const spare = PALETTE.find((entry) => !taken.includes(entry)) ?? color;
      used.set(row[by], [taken.includes(color) && (row.kind ?? "method") === "method" ? spare : color, shape]);
    }
    return rows.map((row) => ({ ...row, color: used.get(row[by])[0], shape: used.get(row[by])[1], series: row[by] }));
  }

  // --- charts -----------------------------------------------------------------------------------

  const plots = new Map();

  async function drawChart(figure, turn) {
    const name = figure.dataset.chart, chart = page.charts[name];
    const rows = name === "scatter" ? await scatterRows(chart) : await chartRows(chart);
    const shaded = JSON.stringify(chart.spec.layer).includes('"shaded"') ? await shadedBudgets(rows) : null;
    if (turn !== drawing) return;
    const plot = figure.querySelector(".plot");
    figure.classList.toggle("empty", !rows.length);
    if (!plots.has(name)) {
      const size = 0.75 * parseFloat(getComputedStyle(document.documentElement).fontSize);
      const narrow = plot.clientWidth < NARROW;
      // Marks and their texts grow with the page's letters, as on a large screen; on a narrow one
      // names stand upright.
      const grown = { fontSize: size / 12, step: size / 12, size: (size / 12) ** 2 };
      const fitted = narrow ? { labelAngle: -90, tickCount: 4 } : {};
      const spec = JSON.parse(JSON.stringify(chart.spec), (key, value) =>
        key in fitted ? fitted[key] : key in grown && typeof value === "number" ? value * grown[key] : value);
      Object.assign(spec.config.axis, { labelFontSize: size, titleFontSize: size, labelLimit: narrow ? 150 : 28 * size });
      // Known before the promise is: two drawings at once share one chart.
      plots.set(name, vegaEmbed(plot, spec, { ast: true, actions: false, renderer: "svg",
        defaultStyle: false, tooltip: () => {}, logLevel: 1 }).then(({ view }) => listen(view, chart, plot)));
    }
    const view = await plots.get(name);
    const shown = shownBy(chart, rows, plot.clientWidth);
    view.data("rows", shown);
    if (chart.spec.layer.some((layer) => JSON.stringify(layer).includes('"lines"'))) view.data("lines", lines(name, rows));
    if (shaded) view.data("shaded", shaded);
    await view.resize().runAsync();
    if (turn !== drawing) return;
    const first = rows[0] && rows[0].value != null ? ` First: ${rows[0].label}, ${number(rows[0].value)}.` : "";
    plot.setAttribute("aria-label", `${chart.alt} ${rows.length} marks.${first}`);
    legend(figure, shown);
  }

  function shownBy(chart, rows, width) {
    if (!JSON.stringify(chart.spec).includes("strength")) {
      return rows.map((row) => ({ ...row, budget: Number((100 * row.budget).toPrecision(6)) }));
    }
    const strength = (row) => (score()[3] ? -row.value : row.value);
    const [least, most] = [Math.min(...rows.map(strength)), Math.max(...rows.map(strength))];
    const order = (row) => [page.layers.indexOf(row.layer), row.target, row.source, row.method].map(
      (part) => (typeof part === "number" ? String(part + 1).padStart(4, "0") : part ?? "")).join("\u0000");
    // Figures stand upright in cells that are narrower than they are.
    const columns = new Set(rows.map((row) => row[chart.spec.layer[0].encoding.x.field])).size;
    const letter = 0.75 * parseFloat(getComputedStyle(document.documentElement).fontSize);
    const turn = width - 10 * letter < 3 * letter * columns ? 270 : 0;
    return rows.map((row) => ({ ...row, strength: strength(row), text: number(row.value), turn,
      ink: strength(row) > least + 0.5 * (most - least) ? "#ffffff" : "#111827",
    })).sort((a, b) => (order(a) < order(b) ? -1 : 1));
  }

  // Budgets at which random pixels or a blob take as much, each half of the way to its neighbors.
  async function shadedBudgets(rows) {
    const { budget: _, ...alike } = wantedAnswers();
    const answers = rowsOf(await load(page.answers), { ...alike, fill: state.fill });
    const none = new Set(answers.filter((row) => row.no_more).map((row) => row.budget));
    const tried = [...new Set(rows.map((row) => row.budget))].sort((a, b) => a - b);
    const step = (i) => (tried[i] && tried[i + 1] ? Math.sqrt(tried[i + 1] / tried[i]) : tried.length > 1 ? 0 : 1.4);
    return tried.flatMap((budget, i) => (none.has(budget) ? [{ low: (100 * budget) / (step(i - 1) || step(i)),
      high: 100 * budget * (step(i) || step(i - 1)) }] : []));
  }

  const wantedAnswers = () => ({ run: state.run, faces: state.faces, target: state.target, split: state.split,
    maps: state.maps, budget: state.budget });

  // What marks are seen against: clean faces; no effect; the whole effect of the search.
  function lines(name, rows) {
    if (name === "scatter") return [{ clean: 0, hidden: 0 }, { clean: 1, hidden: 1 }];
    if (name !== "first") return name === "truth" ? [{ value: 0.5, name: "chance" }] : [];
    const clean = `clean_${state.score}`, row = rows.find((row) => row[clean] != null);
    if (page.columns.includes(clean)) return row ? [{ value: row[clean], name: "clean" }] : [];
    return state.score === "oracle_share" ? [{ value: 0, name: "random" }, { value: 1, name: "search" }] :
      [{ value: 0, name: "no more" }];
  }

  function listen(view, chart, plot) {
    const tip = byId("tip");
    view.addEventListener("mousemove", (event, item) => {
      const row = item?.datum;
      tip.hidden = !(row && (row.label ?? row.identity));
      if (tip.hidden) return;
      tip.textContent = row.identity ? `${row.identity}: ${number(row.clean)} clean, ${number(row.hidden)} hidden` :
        `${row.label}: ${number(row.value)} ${row.low < row.high ? `[${number(row.low)}, ${number(row.high)}]` : ""}` +
        (row.own_share == null ? "" : `; its drop is ${percent(row.own_share, 0)} of that by the target's own maps`);
      tip.style.left = `${Math.min(event.pageX + 12, document.documentElement.clientWidth - 240)}px`;
      tip.style.top = `${event.pageY + 12}px`;
    });
    plot.addEventListener("mouseleave", () => { tip.hidden = true; });
    view.addEventListener("click", (event, item) => {
      const row = item?.datum;
      if (!row || !Object.keys(chart.click).length) return;
      const entries = Object.entries(chart.click).map(([name, field]) =>
        [name, field.startsWith("=") ? field.slice(1) : field === "source" && row.source === row.target ? "own" : row[field]]);
      if (entries.every(([, value]) => value != null)) change(Object.fromEntries(entries));
    });
    return view;
  }

  function legend(figure, rows) {
    const key = figure.querySelector(".key");
    const seen = new Map(rows.filter((row) => row.series).map((row) => [row.series, row.color]));
    const wanted = key.dataset.legend === "yes" && seen.size > 1 && !rows.some((row) => row.text);
    key.replaceChildren(...(wanted ? [...seen].map(([text, color]) => {
      const dot = make("span", { className: "dot" });
      dot.style.color = color;
      return make("span", {}, dot, text);
    }) : []));
  }

  // --- leaderboard ------------------------------------------------------------------------------

  const plain = (value) => number(value), share = (value) => percent(value);
  // Title, column, how it is shown; those of the audit last.
  const COLUMNS = [
    ["Clean", "clean_rate", plain], ["Recognition", "rate", plain], ["Drop", "drop", signed],
    ["Rank", "rank", (value) => number(value, 1)], ["First", "first_share", (value) => percent(value, 0)],
    ["p (Holm)", "p_first", (value) => (value < 0.001 ? "<0.001" : number(value))],
    ["Of own maps", "own_share", (value) => percent(value, 0)],
    ["Excess", "excess", signed], ["Specificity", "specificity", signed], ["Share of oracle", "oracle_share", plain],
    ["Held-out drop", "heldout_drop", signed], ["Cosine", "cosine", plain],
    ["Any photo", "any_rate", plain], ["Template", "template_rate", plain], ["Rank-1", "rank_one", plain],
    ["Scored", "scored", (value, row) => `${value}/${row.identities}`],
    ["No map", "degenerate_share", share], ["Flat maps", "maps_degenerate_share", share],
    ["Ill-conditioned", "maps_ill_conditioned_share", share],
    ["Area mean", "area_mean", (value) => percent(value, 2)], ["Area max", "area_max", (value) => percent(value, 2)],
    ["Over budget", "over_budget_share", share], ["Same scores", "unaffected_share", share],
  ];
  const AUDIT = COLUMNS.findIndex(([title]) => title === "Scored");

  async function drawLeaderboard(panel, turn) {
    const rows = await boardRows();
    if (turn !== drawing) return;
    if (!panel.firstChild) buildLeaderboard(panel);
    const find = (state.find ?? "").toLowerCase();
    const [sort, down] = state.sort ? [state.sort.replace("-", ""), state.sort.startsWith("-")] : [score()[0], !score()[3]];
    const matching = rows.filter((row) => row.label.toLowerCase().includes(find));
    matching.sort((a, b) => {
      const [x, y] = [a[sort], b[sort]];
      if (x == null || y == null) return (x == null) - (y == null);
      const order = typeof x === "number" ? x - y : String(x).localeCompare(String(y));
      return down ? -order : order;
    });
    const columns = COLUMNS.map((column, index) => [...column, index >= AUDIT]).filter(
      ([, name]) => page.columns.includes(name) && matching.some((row) => row[name] != null));
    const few = state.all ? matching : matching.slice(0, ROWS);
    const heads = [["Method @ layer", "label", String, false], ...columns].map(([title, name, , audit]) => {
      const button = make("button", { type: "button", textContent: title });
      button.addEventListener("click", () => change({ sort: sort === name && !down ? `-${name}` :
        sort === name ? name : ["label", "rank", "p_first"].includes(name) ? name : `-${name}` }, []));
      const head = make("th", { scope: "col", className: audit ? "audit num" : name === "label" ? "" : "num" }, button);
      if (sort === name) head.setAttribute("aria-sort", down ? "descending" : "ascending");
      return head;
    });
    const body = few.map((row) => make("tr", { className: row.warning ? "flagged" : row.kind === "method" ? "" : "baseline",
      title: row.warning ?? "" }, make("th", { scope: "row", textContent: row.label }),
      ...columns.map(([, name, text, audit]) => {
        const bounds = name === "rank" ? (row.rank == null ? "" : `[${row.rank_low}, ${row.rank_high}]`) : interval(row, name, number);
        return make("td", { className: audit ? "audit num" : "num", dataset: { column: name } },
          row[name] == null ? DASH : text(row[name], row), bounds && make("span", { className: "interval", textContent: bounds }));
      })));
    const focus = document.activeElement?.closest("th")?.textContent;
    const table = panel.querySelector("table");
    table.tHead.replaceChildren(make("tr", {}, ...heads));
    table.tBodies[0].replaceChildren(...body);
    const count = `${matching.length} rows${few.length < matching.length ? `, the first ${few.length}` : ""}`;
    table.caption.replaceChildren(make("span", { textContent: `${settings()}: ${count}` }));
    for (const head of heads) if (head.textContent === focus) head.firstChild.focus();
    const more = panel.querySelector(".all");
    more.hidden = matching.length <= ROWS;
    more.textContent = state.all ? `Show the first ${ROWS} rows` : `Show all ${matching.length} rows`;
    const input = panel.querySelector("input");
    if (document.activeElement !== input) input.value = state.find ?? "";
    panel.csv = () => [["label", ...page.columns], ...matching.map((row) => [row.label, ...page.columns.map((name) => row[name])])];
  }

  function buildLeaderboard(panel) {
    const input = make("input", { type: "search", placeholder: "e.g. layer-cam" });
    input.addEventListener("input", () => change({ find: input.value }, []));
    const more = make("button", { type: "button", className: "all" });
    more.addEventListener("click", () => change({ all: state.all ? "" : "1" }, []));
    const save = make("button", { type: "button", textContent: "Save these rows as CSV" });
    save.addEventListener("click", () => {
      const quoted = (value) => `"${String(value ?? "").replaceAll('"', '""')}"`;
      const text = panel.csv().map((line) => line.map(quoted).join(",")).join("\n");
      const link = make("a", { download: "facefocus-rows.csv", href: URL.createObjectURL(new Blob([text], { type: "text/csv" })) });
      link.click();
      URL.revokeObjectURL(link.href);
    });
    const table = make("table", {}, make("caption"), make("thead"), make("tbody"));
    const scroll = make("div", { className: "scroll", tabIndex: 0 }, table);
    scroll.setAttribute("role", "region");
    scroll.setAttribute("aria-label", "Leaderboard");
    panel.append(make("div", { className: "tools" }, make("label", {}, "Search ", input), save), scroll, more);
  }

  const settings = () => [state.run === ALL ? "all runs" : "", state.target, mapsWords(), budgetText(state.budget),
    `fill ${state.fill} (${page.readings[state.fill]})`, `${{ heldout: "held-out" }[state.split] ?? state.split.replaceAll("-", " ")} photos`,
  ].filter(Boolean).join(", ");
  const mapsWords = (maps = state.maps) => (maps === "own" ? "own maps" :
    maps === "transferred" ? "maps of other recognizers" : `maps from ${maps}`);

  // --- people -----------------------------------------------------------------------------------

  async function scatterRows(chart) {
    const table = await load(chart.rows);
    const wanted = Object.fromEntries(KEYS.filter((name) => state[name] !== ALL).map((name) => [name, state[name]]));
    const rows = rowsOf(table, wanted);
    const names = [...new Set(rows.map((row) => row.label))];
    const select = byId("configuration");
    const shown = names.includes(state.config) ? state.config : names[0];
    options(select, names.map((name) => [name, name]), shown);
    select.parentElement.hidden = names.length < 2;
    return rows.filter((row) => row.label === shown).map((row) => ({ ...row,
      color: (page.looks[row.method] ?? ["currentColor"])[0], size: row.identity === state.person ? 260 : 60 }));
  }

  async function drawPeople(panel, turn) {
    if (!panel.firstChild) buildPeople(panel);
    const table = await load(page.charts.scatter.rows);
    if (turn !== drawing) return;
    const known = page.galleries.filter((gallery) => (state.run === ALL || gallery.run === state.run) && gallery.faces === state.faces);
    const some = rowsOf(table, { run: state.run === ALL ? undefined : state.run, faces: state.faces, target: state.target });
    const names = [...new Set([...known.map((gallery) => gallery.identity), ...some.map((row) => row.identity)])];
    const select = byId("person");
    const shown = names.includes(state.person) ? state.person : names[0];
    const withMaps = new Set(known.map((gallery) => gallery.identity));
    options(select, names.map((name) => [name, withMaps.has(name) ? `${name} (with maps)` : name]), shown);
    const file = known.find((gallery) => gallery.identity === shown)?.file;
    const person = file ? await load(file) : null;
    if (turn !== drawing) return;
    panel.querySelector(".tiles").replaceChildren();
    byId("hidden").parentElement.hidden = !person;
    byId("people-note").textContent = person ? personNote(person.person) : shown === undefined ? "" :
      page.persons.includes(shown) ? `The store of the run no longer has maps of ${shown}.` :
        `Maps and masks of ${withMaps.size} people are in this page. Those of ${shown}: ${command(shown)}`;
    if (person) await drawPerson(panel, person);
  }

  const command = (person) => `facefocus report ${state.run === ALL ? "RUN" : state.run} --person "${person}"`;

  function personNote(about) {
    const face = about.face ? "on the photo" : "on a drawn outline: no face is shown";
    const left = about.left ? ` ${about.left} more maps are not in this page: ${command(about.identity)}` : "";
    return `${about.identity}: each method's map (bright: important) above, the pixels that were hidden below, ${face}.${left}`;
  }

  function buildPeople(panel) {
    const person = make("select", { id: "person" }), configuration = make("select", { id: "configuration" });
    const slider = make("input", { type: "range", id: "hidden", min: 0, step: 1 });
    person.addEventListener("change", () => change({ person: person.value }, []));
    configuration.addEventListener("change", () => change({ config: configuration.value }, []));
    slider.addEventListener("input", () => change({ level: slider.value }, []));
    panel.append(make("div", { className: "tools" }, make("label", {}, "Person ", person),
      make("label", {}, "Mask size ", slider, make("output", { id: "level" }))),
    make("p", { id: "people-note", className: "note" }), make("div", { className: "tiles" }));
    const figure = panel.closest("section").querySelector("[data-chart=scatter]");
    figure.prepend(make("div", { className: "tools" }, make("label", {}, "Method ", configuration)));
  }

  async function drawPerson(panel, file) {
    const { person, rest } = file;
    const budgets = [...new Set(person.tiles.flatMap((tile) => tile.budgets))].sort((a, b) => a - b);
    const nearest = budgets.reduce((best, budget, i) => (Math.abs(budget - state.budget) < Math.abs(budgets[best] - state.budget) ? i : best), 0);
    const level = Math.min(state.level === undefined ? nearest : Number(state.level), budgets.length - 1);
    Object.assign(byId("hidden"), { max: budgets.length - 1, value: level });
    byId("level").textContent = budgetText(budgets[level]);
    const face = person.face ? await picture(person.face) : null;
    const mapSize = person.map[0] * person.map[1], maskSize = Math.ceil((person.height * person.width) / 8);
    let at = 0;
    const tiles = person.tiles.map((tile) => {
      // A cell is kept by its difference from the one to its left, a mask by that from the smaller.
      let value = 0, mask = new Uint8Array(maskSize);
      const map = rest.subarray(at, (at += mapSize)).map((byte, i) => (value = i % person.map[1] ? value + byte : byte) & 255);
      const masks = tile.budgets.map(() => (mask = rest.subarray(at, (at += maskSize)).map((byte, i) => byte ^ mask[i])));
      const index = tile.budgets.indexOf(budgets[level]);
      const words = tile.none ? "no map" : index < 0 ? "not tried" : `${tile.pixels[index]} pixels hidden`;
      return make("figure", { className: "tile" },
        drawn(person, `Map of ${tile.title}`, (context) => paintMap(context, person, tile.none ? null : map, face)),
        drawn(person, `${tile.title}: ${words}`, (context) => paintMask(context, person, masks[index], face)),
        make("figcaption", {}, tile.title, make("br"), tile.source ? `maps from ${tile.source}` : "", make("br"), words));
    });
    panel.querySelector(".tiles").replaceChildren(...tiles);
  }

  const picture = (address) => new Promise((resolve, reject) => {
    const image = make("img", { src: address });
    image.onload = () => resolve(image);
    image.onerror = reject;
  });

  function drawn(person, label, paint) {
    const canvas = make("canvas", { width: 2 * person.width, height: 2 * person.height });
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", label);
    const context = canvas.getContext("2d");
    context.scale(2, 2);
    paint(context);
    return canvas;
  }

  function paintMap(context, person, map, face) {
    context.fillStyle = "#d7dae0";
    context.fillRect(0, 0, person.width, person.height);
    if (face) context.drawImage(face, 0, 0);
    if (!map) return outline(context, person, "#4b5563");
    const [height, width] = person.map;
    const small = make("canvas", { width, height });
    const pixels = new ImageData(width, height);
    map.forEach((value, i) => pixels.data.set([...heat(value / 63), 255], 4 * i));
    small.getContext("2d").putImageData(pixels, 0, 0);
    context.globalAlpha = face ? 0.6 : 1;
    context.drawImage(small, 0, 0, person.width, person.height);
    context.globalAlpha = 1;
    if (!face) outline(context, person, "#ffffff");
  }

  // Dark to bright, the same order for any eye and in gray.
  const STOPS = [[0, 0, 4], [59, 15, 112], [140, 41, 129], [222, 73, 104], [254, 159, 109], [252, 253, 191]];
  function heat(value) {
    const position = value * (STOPS.length - 1), low = Math.min(Math.floor(position), STOPS.length - 2);
    return STOPS[low].map((channel, i) => Math.round(channel + (position - low) * (STOPS[low + 1][i] - channel)));
  }

  function paintMask(context, person, mask, face) {
    if (face) context.drawImage(face, 0, 0);
    const pixels = new ImageData(person.width, person.height);
    for (let i = 0; i < person.width * person.height; i++) {
      const hidden = mask && (mask[i >> 3] >> (i & 7)) & 1;
      pixels.data.set(hidden ? [17, 24, 39, 255] : [243, 244, 246, face ? 0 : 255], 4 * i);
    }
    const small = make("canvas", { width: person.width, height: person.height });
    small.getContext("2d").putImageData(pixels, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(small, 0, 0);
    if (!face) outline(context, person, "#94a3b8");
  }

  function outline(context, person, color) {
    context.save();
    context.scale(person.width / 112, person.height / 112);
    context.strokeStyle = color;
    context.stroke(new Path2D(page.outline));
    context.restore();
  }

  // --- selectors, answer, views -----------------------------------------------------------------

  function options(select, entries, chosen) {
    const same = select.options.length === entries.length &&
      entries.every(([value, text], i) => select.options[i].value === String(value) && select.options[i].text === text);
    if (!same) select.replaceChildren(...entries.map(([value, text]) => make("option", { value, textContent: text })));
    select.value = String(chosen);
  }

  function choices(name) {
    const values = [...new Set(page.combinations.map((combination) => combination[name]))];
    if (name === "score") return page.scores.map(([value, title]) => [value, title]);
    if (name === "run") return [...values.map((value) => [value, value]), ...(values.length > 1 ? [[ALL, "all runs"]] : [])];
    if (name === "budget") return values.sort((a, b) => a - b).map((value) => [value, budgetText(value)]);
    if (name === "split") return values.map((value) => [value, value === "heldout" ? "held-out" : value.replaceAll("-", " ")]);
    if (name === "fill") return values.map((value) => [value, `${value} (${page.readings[value]})`]);
    if (name !== "maps") return values.map((value) => [value, value]);
    const sources = [...new Set(page.sources.filter(([run, target]) => (state.run === ALL || run === state.run) &&
      target === state.target).map(([, , source]) => source))];
    return [...values.map((value) => [value, value === "own" ? "own" : "of others"]),
      ...(sources.length > 1 ? sources.map((value) => [value, `from ${value}`]) : [])];
  }

  function drawSelectors() {
    for (const name of Object.keys(TITLES)) {
      let select = byId(`select-${name}`);
      if (!select) {
        select = make("select", { id: `select-${name}`, name });
        select.addEventListener("change", () => change({ [name]: name === "budget" ? Number(select.value) : select.value }));
        byId("selectors").append(make("label", {}, TITLES[name], select));
      }
      const entries = choices(name);
      options(select, entries, state[name]);
      select.parentElement.hidden = entries.length < 2;
    }
    byId("score-note").textContent = `${score()[1]}: ${score()[2]}.`;
  }

  async function drawAnswer(turn) {
    const table = await load(page.answers);
    const rows = await boardRows();
    if (turn !== drawing) return;
    const tested = state.score === "rate" && state.run !== ALL;
    const answers = tested ? rowsOf(table, wantedAnswers()) : [];
    const [mine] = answers.filter((row) => row.fill === state.fill);
    const others = answers.filter((row) => row.reading !== page.readings[state.fill]);
    const other = others.find((row) => ["black", "inpaint"].includes(row.fill)) ?? others[0];
    byId("answer").textContent = mine?.answer ?? byScore(rows.filter((row) => row.kind !== "oracle" && row.value != null && !row.warning));
    byId("other").textContent = other?.answer ?? "";
    byId("other").hidden = !other;
    const more = (mine?.more ?? "").split("\n").filter(Boolean);
    byId("more").hidden = !more.length;
    byId("more").querySelector("div").replaceChildren(...more.map((text) => make("p", { textContent: text })));
  }

  // What may be said of a score without a test between methods: its interval, and no more.
  function byScore(rows) {
    const [top] = rows.filter((row) => row.kind === "method").sort(better());
    const [flat] = rows.filter((row) => row.kind === "baseline").sort(better());
    if (!top) return `Nothing was scored: ${settings()}.`;
    const [name, title, , less] = score();
    const bounds = interval(top, name);
    const sure = less || !bounds ? "" : top.low > 0 ? " It is above 0 for sure." : " Its interval includes 0: it is not shown to be above 0.";
    const beaten = flat && better()(flat, top) < 0 ? ` ${less ? "Lower" : "Higher"} still is ${flat.label}, ${number(flat.value)}.` : "";
    return `${title}, ${settings()}: ${less ? "lowest" : "highest"} of the methods is ${top.label}, ${number(top.value)} ${bounds}`.trim() +
      `.${beaten}${sure} Whether it is first for sure is tested for recognition within a run only: see the ranks.`;
  }

  const views = () => [...document.querySelectorAll("main > section")].map((section) => section.dataset.view);

  function drawViews() {
    for (const section of document.querySelectorAll("main > section")) section.hidden = section.dataset.view !== state.view;
    for (const link of document.querySelectorAll("#views a")) {
      const here = link.dataset.view === state.view;
      if (here) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
    }
  }

  async function draw() {
    const turn = ++drawing;
    writeAddress();
    drawSelectors();
    drawViews();
    const section = document.querySelector("main > section:not([hidden])");
    const parts = { leaderboard: drawLeaderboard, people: drawPeople };
    try {
      for (const live of section.querySelectorAll(".live[data-live=people]")) if (!live.firstChild) buildPeople(live);
      await Promise.all([drawAnswer(turn), drawChart(byId("first"), turn),
        ...[...section.querySelectorAll(".live")].map((live) => parts[live.dataset.live](live, turn)),
        ...[...section.querySelectorAll("figure.chart")].map((figure) => drawChart(figure, turn))]);
    } catch (problem) {
      byId("problem").hidden = false;
      byId("problem").textContent = `This page cannot be shown: ${problem.message}`;
    }
    if (turn === drawing) document.body.dataset.drawn = turn;
  }

  // A click on a heading of a written table sorts it by the unrounded numbers.
  function sortable(table) {
    table.querySelectorAll("thead th").forEach((head, index) => {
      const button = make("button", { type: "button", textContent: head.textContent });
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") !== "descending";
        table.querySelectorAll("th[aria-sort]").forEach((heading) => heading.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const value = (row) => row.cells[index].dataset.sort;
        table.tBodies[0].append(...[...table.tBodies[0].rows].sort((a, b) => {
          const [x, y] = [value(a), value(b)];
          if (x === "" || y === "") return (x === "") - (y === "");
          const order = Number.isNaN(Number(x) + Number(y)) ? x.localeCompare(y) : x - y;
          return down ? -order : order;
        }));
      });
    });
  }

  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll("table.sortable").forEach(sortable);
    if (!page) return;
    page.combinations = page.combinations.map((values) => Object.fromEntries([...KEYS, "maps"].map((name, i) => [name, values[i]])));
    for (const link of document.querySelectorAll("#views a")) {
      link.addEventListener("click", (event) => { event.preventDefault(); change({ view: link.dataset.view }, []); });
    }
    window.addEventListener("hashchange", () => { readAddress(); draw(); });
    readAddress();
    draw();
  });
})();
