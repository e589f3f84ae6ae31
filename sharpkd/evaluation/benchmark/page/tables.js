// The tables: results, harm, models; and the headline above them.
function fillTable(table, columns, items) {
  const sorted = table.dataset.sort ? JSON.parse(table.dataset.sort) : null;
  const head = columns.map(one => '<th scope="col" data-key="' + escaped(one.key) + '"><button type="button" data-first="'
    + (one.first || "descending") + '">' + escaped(one.title) + "</button>"
    + (one.note ? "<small>" + escaped(one.note) + "</small>" : "") + "</th>").join("");
  const body = items.map(model => '<tr class="' + model.kind + '">' + columns.map((one, i) => {
    const cell = one.cell(model);
    const value = escaped(known(cell.value) ? cell.value : "");
    if (i === 0) return '<th scope="row" data-value="' + value + '">' + cell.html + "</th>";
    const title = cell.title ? ' title="' + escaped(cell.title) + '"' : "";
    return '<td class="' + (cell.kind || "") + '" data-value="' + value + '"' + title + ">" + cell.html + "</td>";
  }).join("") + "</tr>").join("");
  table.innerHTML = "<thead><tr>" + head + "</tr></thead><tbody>" + body + "</tbody>";
  const keep = (heading, order) => table.dataset.sort = JSON.stringify({key: heading.dataset.key, order});
  makeSortable(table, keep);
  const headings = [...table.tHead.rows[0].cells];
  const again = sorted && headings.find(heading => heading.dataset.key === sorted.key);
  if (again) sortBy(again, sorted.order);
  else if (headings[1]) sortBy(headings[1], columns[1].first || "descending");
  readLooks();
}

const toldWhat = "is told the blur or looks at the sharp image";
const nameColumn = {key: "model", title: "model", first: "ascending", cell: model => ({value: model.name,
  html: '<span class="who">' + (model.kind === "input" ? "" : swatch(model.name)) + "<span>" + breakable(model.name)
    + (model.told ? ' <span class="tag-told" title="' + toldWhat + '">told</span>' : "") + "</span></span>"})};
const text = value => '<span class="main">' + value + "</span>";
const small = (value, kind = "") => value ? ' <span class="gain ' + kind + '">' + value + "</span>" : "";

// Bold is the best; underlined the best of those that are not told what no user knows
function marks(figures, metric) {
  const {better, digits} = metrics[metric];
  const rounded = new Map(contenders.map(model => [model, figures(model)[metric]]).filter(([, value]) => known(value))
    .map(([model, value]) => [model, Number(value.toFixed(digits))]));
  const bestOf = list => list.length ? Math.max(...list.map(model => rounded.get(model) * better)) : null;
  const all = [...rounded.keys()], best = bestOf(all), fair = bestOf(all.filter(model => !model.told));
  return model => {
    if (!rounded.has(model)) return "";
    const value = rounded.get(model) * better;
    return value === best ? "best" : value === fair && !model.told ? "fair" : "";
  };
}
function figureColumn(key, title, note, figures, metric) {
  const {better, digits} = metrics[metric], mark = marks(figures, metric);
  return {key, title, note, first: better > 0 ? "descending" : "ascending", cell: model => {
    const one = figures(model), value = one[metric], gain = one["gain_" + metric];
    const below = metric === "psnr" && known(one.share_under_40) && model.kind !== "input"
      ? small(percent(one.share_under_40) + " < 40") : "";
    const beside = model.kind === "input" ? "" : small(signed(gain, digits), gainClass(gain, better)) + below;
    const shown = metric === "psnr" ? decibels(value, digits) : fixed(value, digits);
    return {value, kind: mark(model), html: known(value) ? text(shown) + beside : "",
      title: known(value) ? one.images + " images" : ""};
  }};
}

const several = list => list.length > 1;
const keysOf = pick => [...new Set(models.flatMap(model => Object.keys(pick(model) || {})))];
const views = [{group: "", title: "all tracks", columns: metric => tracks.map(track =>
  figureColumn(track, track, about[track], model => figuresOf(model, track), metric))}];
for (const track of tracks) {
  const list = conditionsOf(track);
  if (several(list)) views.push({group: "Settings of a track", title: track, columns: metric => list.map(one =>
    figureColumn(one.name, label(one), track, model => model.conditions[one.name] || {}, metric))});
}
for (const track of tracks) {
  const list = keysOf(model => model.domains[track]);
  if (several(list)) views.push({group: "Kinds of image on a track", title: track, columns: metric => list.map(domain =>
    figureColumn("domain " + domain, domain, track, model => (model.domains[track] || {})[domain] || {}, metric))});
}
for (const {name} of data.conditions) {
  const list = keysOf(model => model.sets[name]);
  if (several(list)) views.push({group: "Sets of one setting", title: name, columns: metric => list.map(set =>
    figureColumn("set " + set, set, name, model => (model.sets[name] || {})[set] || {}, metric))});
}

const sizes = ((data.speed || {}).sizes || []).filter(size => contenders.some(model => timeOf(model, size)));
const usualSize = sizes.includes("1280x720") ? "1280x720" : sizes[0];
function timeOf(model, size) {
  const known = ((data.speed || {}).models || {})[model.name], time = known && known.sizes[size];
  return time && time.ms > 0 ? time : null;
}
const timeColumn = size => ({key: "ms " + size, title: "ms", note: size.replace("x", "×"), first: "ascending", cell: model => {
  const one = timeOf(model, size);
  return one ? {value: one.ms, html: text(milliseconds(one.ms)) + small(known(one.vs_unsharp) ?
    fixed(one.vs_unsharp, one.vs_unsharp < 10 ? 1 : 0) + "×" : ""), title: ratios(one).join(", ")} : {html: ""};
}});
// A net that was too slow for the larger frames has its ratios on the smallest alone
const cnnSize = sizes.find(size => contenders.some(model => known((timeOf(model, size) || {}).vs_enhanced_cnn)));
const cnnColumn = {key: "cnn", title: "CNN", note: "times, " + (cnnSize || "").replace("x", "×"), first: "ascending",
  cell: model => {
    const value = (timeOf(model, cnnSize) || {}).vs_enhanced_cnn;
    return {value, html: known(value) ? text(Number(value.toPrecision(2)) + "×") : ""};
  }};
function ratios(one) {
  return [known(one.vs_unsharp) ? fixed(one.vs_unsharp, 1) + " × OpenCV's unsharp mask" : "",
    known(one.vs_enhanced_cnn) ? fixed(one.vs_enhanced_cnn, 3) + " × the 483,587-parameter CNN" : "",
    known(one.repeats) ? "median of " + one.repeats : ""].filter(Boolean);
}
const factColumn = (key, title, digits = 0, note = "") => ({key, title, note, first: "ascending", cell: model => {
  const value = model.facts[key];
  return {value, html: typeof value === "number" ? text(fixed(value, digits)) : escaped(known(value) ? value : "")};
}});
const hasFact = key => contenders.some(model => known(model.facts[key]));

function drawResults() {
  const metric = byId("metric").value, view = views[Number(byId("columns").value)];
  const more = [opinions ? opinionColumn : null, hasFact("parameters") ? factColumn("parameters", "parameters") : null,
    usualSize ? timeColumn(usualSize) : null].filter(Boolean);
  fillTable(byId("results"), [nameColumn, ...view.columns(metric), ...more], models);
  const {title, better} = metrics[metric];
  byId("results-hint").textContent = title + (better > 0 ? ", higher is better" : ", lower is better")
    + ", with the " + (better > 0 ? "gain over" : "difference to") + " the input beside it. Bold: the best"
    + (models.some(model => model.told) ? "; underlined: the best that is not told the blur or the sharp image." : ".")
    + (tracks.some(track => track.startsWith("sr ")) && metric !== "lpips" ? " On sr both are of luma, without the border." : "")
    + (usualSize ? " Beside the milliseconds: how many times those of OpenCV's unsharp mask." : "");
}

const opinions = JSON.parse(byId("opinions").textContent);
const opinionOf = model => ((opinions || {}).scores || {})[model.name];
const opinionColumn = {key: "opinion", title: "opinion", note: "people’s score", cell: model => {
  const one = opinionOf(model);
  return one ? {value: one.score, html: text(signed(one.score, 2)) + small("± " + fixed(one.high - one.score, 2)),
    title: one.comparisons + " comparisons"} : {html: ""};
}};
function drawOpinions() {
  byId("opinions-section").hidden = !opinions;
  if (!opinions) return;
  const confidence = fixed(100 * opinions.confidence, 0) + " %", scores = Object.values(opinions.scores);
  const reach = Math.max(1e-9, ...scores.flatMap(one => [Math.abs(one.low), Math.abs(one.high)]));
  const between = (low, high, write) => write(low) + " … " + write(high);
  const columns = [nameColumn,
    {key: "score", title: "score", note: confidence + " interval", cell: model => {
      const {score, low, high} = opinionOf(model);
      return {value: score, html: text(signed(score, 2)) + small(between(low, high, value => signed(value, 2)))
        + intervalBar(low, score, high, reach)};
    }},
    {key: "preferred", title: "preferred to the input", note: "share of choices expected", cell: model => {
      const share = opinionOf(model).preferred_to_input;
      return share ? {value: share[0], html: text(percent(share[0])) + small(between(share[1], share[2], percent))}
        : {html: ""};
    }},
    {key: "comparisons", title: "comparisons", cell: model => {
      const count = opinionOf(model).comparisons;
      return {value: count, html: text(fixed(count, 0))};
    }}];
  const asked = Object.keys(opinions.scores).map(name => models.find(model => model.name === name)
    || {name, kind: name === "input" ? "input" : "model", facts: {}});
  fillTable(byId("opinions-table"), columns, asked);
  byId("opinions-hint").textContent = "Blind choices between two outputs: " + plural(opinions.choices, "choice") + ", "
    + opinions.ties + " without a preference. Bradley–Terry scores, whose mean is 0: of two models whose scores differ by d, "
    + "people prefer the higher one in 1 / (1 + e⁻ᵈ) of the cases. The intervals take the choices as independent."
    + (opinions.regularised ? " Some models always won or always lost: how far apart they are is a guess yet." : "");
}

function drawHarm() {
  const columns = restoring.map(track => ({key: track, title: track, note: about[track], first: "ascending", cell: model => {
    const one = figuresOf(model, track), lost = one.harm_p95_db;
    return {value: one.harmed_share, html: known(one.harmed_share) ? text(percent(one.harmed_share))
      + small(lost > 0 ? signed(-lost, 2) + " dB" : "", "down") : "", title: (one.images || 0) + " images"};
  }}));
  if (tracks.includes("sharp")) columns.push({key: "sharp", title: "sharp", note: "PSNR to the input", cell: model => {
    const one = figuresOf(model, "sharp");
    return {value: one.psnr, html: known(one.psnr) ? text(decibels(one.psnr, 1, " dB"))
      + small(known(one.share_under_40) ? percent(one.share_under_40) + " < 40" : "") : ""};
  }});
  byId("harm-section").hidden = !contenders.length;
  fillTable(byId("harm"), [nameColumn, ...columns], contenders);
}

const facts = {net: "net", source: "source", engine: "engine", precision: "precision", path: "file", run: "run",
  weights_sha256: "SHA-256"};
function drawModels() {
  const columns = [];
  if (hasFact("parameters")) columns.push(factColumn("parameters", "parameters"));
  if (hasFact("macs_per_pixel")) columns.push(factColumn("macs_per_pixel", "MACs / pixel"));
  if (hasFact("receptive_field")) columns.push(factColumn("receptive_field", "sees", 0, "pixels"));
  columns.push(...sizes.map(timeColumn));
  if (cnnSize) columns.push(cnnColumn);
  for (const [key, title] of Object.entries(facts))
    if (hasFact(key)) columns.push({key, title, first: "ascending", cell: model => {
      const value = model.facts[key], whole = known(value) ? String(value) : "";
      const cut = key === "weights_sha256" ? whole.slice(0, 12) : key === "path" ? whole.split(/[\\/]/).pop()
        : key === "net" ? whole.split(".").pop() : whole;
      return {value, kind: key === "source" ? "text wide" : key === "net" ? "" : "text", html: key === "weights_sha256" ? "<code>" + escaped(cut) + "</code>" : escaped(cut),
        title: whole};
    }});
  byId("models-section").hidden = columns.length === 0;
  fillTable(byId("models"), [nameColumn, ...columns], contenders);
  byId("models-hint").textContent = data.speed ? "Milliseconds a frame, uint8 in and out, median; beside them the ratio to "
    + "OpenCV's unsharp mask in the same run" + (cnnSize ? "; CNN: the ratio to the 483,587-parameter one. " : ". ") + machineText() : "";
}
function machineText() {
  const {threads, cpu, references} = data.speed || {};
  const cnn = Object.entries(((references || {}).enhanced_cnn || {}).sizes || {}).filter(([, time]) => known(time.ms));
  return [cpu, known(threads) ? threads + (threads === 1 ? " thread" : " threads") : ""].filter(Boolean).join(", ") + "."
    + cnn.map(([size, time]) => " The 483,587-parameter CNN took " + milliseconds(time.ms) + " ms at " + size.replace("x", "×")
      + ".").slice(0, 1).join("");
}

function drawCards() {
  const own = contenders.filter(model => model.kind !== "baseline");
  const field = own.length ? own : contenders.filter(model => !model.told);
  const cards = [], aside = own.length && own.length < contenders.length ? ", baselines aside" : "";
  const track = restoring[0];
  const best = (list, value) => list.filter(model => known(value(model))).sort((a, b) => value(b) - value(a))[0];
  const gain = model => figuresOf(model, track).gain_psnr;
  const ms = model => (timeOf(model, usualSize) || {}).ms;
  const first = track && best(field, gain);
  if (first) cards.push([(gain(first) < 0 ? "Least loss on " : "Highest gain on ") + track + aside, signed(gain(first), 2), "dB", first.name]);
  const quick = best(field.filter(model => gain(model) > 0), model => known(ms(model)) ? -ms(model) : null);
  if (quick) cards.push(["Fastest that gains, " + usualSize.replace("x", "×") + aside, milliseconds(ms(quick)), "ms",
    quick.name + ", " + signed(gain(quick), 2) + " dB"]);
  const toInput = model => figuresOf(model, "sharp").psnr;
  const gentle = best(field, toInput);
  if (gentle) cards.push(["Changes sharp images least" + aside, decibels(toInput(gentle), 1),
    toInput(gentle) < data.cap ? "dB to the input" : "to the input", gentle.name]);
  byId("cards").innerHTML = cards.map(([title, figure, unit, note], i) => '<div class="card' + (i ? "" : " best")
    + '"><span class="label">' + escaped(title) + '</span><span class="figure">' + escaped(figure) + "<small>"
    + escaped(unit) + '</small></span><span class="note">' + escaped(note) + "</span></div>").join("");
}
