// The form for a new search, made from the server's schemas: an empty field is left out, so the server's default holds.
"use strict";

const LABELS = {
  max_trials: "Trials", max_epochs: "Epochs, at most", max_seconds: "Working time [s], at most", min_epochs: "Epochs before a stop",
  params: "Parameters, at most", macs: "MACs, at most", latency_ms: "Latency [ms], at most", memory_mb: "Memory [MiB], at most",
  reduction_factor: "One in so many goes on", cpus: "CPUs", gpus: "GPUs", max_parallel: "Candidates at once", trial_timeout_seconds: "Time limit [s]",
  top_k: "Finalists", lr: "Learning rate", beta1: "Beta 1", beta2: "Beta 2", max_train: "Training images, at most", max_validation: "Validation images, at most",
  decay_norm_and_bias: "Decay norms and biases", crop_padding: "Crop padding [pixels]", cutout_size: "Cut-out size [pixels]", warmup_epochs: "Warm-up [epochs]",
  "/scheduler/name": "Early stopping", "/dataset/seed": "Seed of the split", "/finalists/epochs": "Epochs of a full training", "/resources/memory_mb": "Memory [MiB], at most",
  "/reuse": "Earlier results", "/recipe/optimizer/name": "Optimizer", "/recipe/schedule/name": "Schedule", sgd: "SGD", adamw: "AdamW",
};
const COSTS = { params: "parameters", macs: "MACs", latency_ms: "latency [ms]", memory_mb: "memory [MiB]", activations: "activations", depth: "depth [layers]" };
const LIMITS = ["params", "macs", "latency_ms", "memory_mb"];

function titled(name, pointer = "") {
  const plain = name.replaceAll("_", " ");
  return LABELS[pointer] ?? LABELS[name] ?? plain[0].toUpperCase() + plain.slice(1);
}

// The schema behind $ref, and of "a value or null" the value.
function resolve(schema, root) {
  if (schema.$ref) return { ...resolve(root.$defs[schema.$ref.split("/").pop()], root), ...schema, $ref: undefined };
  const options = (schema.anyOf || []).filter((option) => option.type !== "null");
  if (options.length === 1) return { ...resolve(options[0], root), ...schema, anyOf: undefined };
  return schema;
}

function typed(text, schema) {
  if (schema.type === "boolean") return text === "true";
  if (schema.type !== "integer" && schema.type !== "number") return text;
  return Number.isNaN(Number(text)) ? text : Number(text);
}

function labelled(pointer, title, control, help) {
  const label = document.createElement(control.matches("fieldset") ? "div" : "label");
  label.className = "field";
  label.dataset.pointer = pointer;
  const name = document.createElement("span");
  name.textContent = title;
  control.setAttribute("aria-label", title);  // without the help text
  label.append(name, control);
  const small = document.createElement("small");
  small.textContent = help || "";
  label.append(small);
  return label;
}

function select(options, chosen) {
  const made = document.createElement("select");
  for (const [value, text] of options) made.add(new Option(text, value));
  made.value = chosen;
  return made;
}

// Several of a few: one checkbox each. None ticked is an empty list, which the server refuses by name.
function several(schema, items, shown) {
  const box = document.createElement("fieldset");
  for (const option of items.enum || [false, true]) {
    const label = document.createElement("label");
    const tick = Object.assign(document.createElement("input"), { type: "checkbox", value: String(option), checked: (shown || []).includes(option) });
    label.append(tick, items.enum ? option : option ? "yes" : "no");
    box.append(label);
  }
  return { control: box, read: () => $$("input:checked", box).map((tick) => typed(tick.value, items)) };
}

// A list of objects, such as the blocks of a composed space: its JSON, as text.
function asJson(shown) {
  const made = Object.assign(document.createElement("textarea"), { rows: 4, value: shown?.length ? JSON.stringify(shown) : "", placeholder: "left open" });
  const read = () => {
    if (!made.value.trim()) return undefined;
    try { return JSON.parse(made.value); } catch { return made.value; }
  };
  return { control: made, read };
}

function control(schema, shown) {
  const items = schema.items || {};
  if (schema.type === "array" && (items.$ref || items.anyOf || items.type === "object")) return asJson(shown);
  if (schema.type === "array" && (items.enum || items.type === "boolean")) return several(schema, items, shown);
  if (schema.enum || schema.type === "boolean") {
    const options = schema.enum ? schema.enum.map((each) => [each, LABELS[each] ?? each]) : [["false", "no"], ["true", "yes"]];
    if (shown === null || shown === undefined) options.unshift(["", "default"]);
    const made = select(options, String(shown ?? ""));
    return { control: made, read: () => (made.value === "" ? undefined : typed(made.value, schema)) };
  }
  const made = document.createElement("input");
  const number = schema.type === "integer" || schema.type === "number";
  Object.assign(made, { type: number ? "number" : "text", value: Array.isArray(shown) ? shown.join(", ") : shown ?? "", placeholder: "left open" });
  if (number) Object.assign(made, { step: schema.type === "integer" ? "1" : "any", min: schema.minimum ?? "", max: schema.maximum ?? "" });
  const read = () => {
    if (made.validity.badInput) return made.value || "not a number";
    const text = made.value.trim();
    if (text === "") return undefined;
    return schema.type === "array" ? text.split(",").map((part) => part.trim()).filter(Boolean).map((part) => typed(part, items)) : typed(text, schema);
  };
  return { control: made, read };
}

function field(pointer, schema, value) {
  const { control: made, read } = control(schema, value ?? schema.default);
  const name = pointer.split("/").pop();
  return Object.assign(labelled(pointer, titled(name, pointer), made, schema.description), { read });
}

// Fields of one object of the request. `open` names the fields that stand open; the others go behind "More options".
class Fields {
  constructor(pointer, schema, { open = null, skip = ["name"], values = {}, into, more = into }) {
    this.fields = [];
    for (const [name, given] of Object.entries(schema.properties || {})) {
      const plain = resolve(given, schema);
      if (skip.includes(name) || plain.type === "object" || plain.oneOf || plain.const !== undefined) continue;
      const made = field(`${pointer}/${name}`, plain, values?.[name]);
      this.fields.push(made);
      (open === null || open.includes(name) ? into : more).append(made);
    }
  }

  read() {
    return Object.fromEntries(this.fields.map((each) => [each.dataset.pointer.split("/").pop(), each.read()]).filter(([, value]) => value !== undefined));
  }
}

function grid(parent, title) {
  if (title) parent.append(Object.assign(document.createElement("h3"), { textContent: title }));
  const box = Object.assign(document.createElement("div"), { className: "fields" });
  parent.append(box);
  return box;
}

// A card: what is essential stands open, the rest behind "More options".
function card(id) {
  const place = $(id);
  $(".loading", place)?.remove();
  const open = grid(place);
  const details = document.createElement("details");
  details.className = "more";
  details.append(Object.assign(document.createElement("summary"), { textContent: "More options" }));
  place.append(details);
  return { open, details, more: grid(details) };
}

// One of several named things, with the options of the chosen one.
function chooser(pointer, title, items, { chosen, into, options, given }) {
  const pick = select(items.map((item) => [item.name, item.title ?? LABELS[item.name] ?? item.name]), items.some((item) => item.name === chosen) ? chosen : items[0]?.name);
  const label = labelled(pointer, title, pick, "");
  label.classList.add("chooser");
  into.append(label);
  let fields = null;
  const update = () => {
    const item = items.find((each) => each.name === pick.value);
    $("small", label).textContent = (item?.summary || "").replaceAll("``", "");
    if (!item?.options) return;
    options.replaceChildren();
    fields = new Fields(pointer, item.options, { into: options, values: given?.name === item.name ? given : {} });
    const details = options.closest("details.more");
    if (details && options.dataset.alone) details.hidden = !fields.fields.length;
  };
  pick.addEventListener("change", update);
  update();
  return { read: () => ({ name: pick.value, ...fields?.read() }) };
}

// The named variants of a field whose schema is a tagged union, such as the optimizer of the recipe.
function variants(schema, name) {
  const property = schema.$defs.Recipe.properties[name];
  const items = Object.entries(property.discriminator.mapping).map(([key, ref]) => {
    const options = schema.$defs[ref.split("/").pop()];
    return { name: key, summary: options.description, options: { ...options, $defs: schema.$defs } };
  });
  return { items, usual: property.default?.name };
}

// A task's own score: what is made as good as possible where nothing else is asked for.
const taskOf = (item) => item?.info?.task ?? "classification";
const SCORES = { classification: "val_accuracy", segmentation: "val_miou", localisation: "val_accuracy_at_iou50" };

function goal(given, schema, score) {
  const parts = card("#form-goal");
  const [first, second, ...others] = given.objectives || [{ metric: "val_accuracy" }];
  const plain = (each) => !each || ((each.direction ?? null) === null && (each.batch_size ?? 1) === 1);
  const simple = Object.values(SCORES).includes(first.metric) && plain(first) && plain(second) && !others.length && (!second || LIMITS.includes(second.metric));
  const choices = [["", "none: the score alone"], ...LIMITS.map((metric) => [metric, COSTS[metric]])];
  if (!simple) choices.push(["kept", `as before: ${given.objectives.map((each) => each.metric).join(", ")}`]);
  const also = select(choices, simple ? second?.metric ?? "" : "kept");
  parts.open.append(labelled("/objectives", "Second objective", also, "Makes the search look for a Pareto front."));
  // What a form with four limits cannot show is kept as it was.
  const kept = (given.constraints || []).filter((each) => !LIMITS.includes(each.metric) || (each.min ?? null) !== null);
  const limits = LIMITS.map((metric) => {
    const known = (given.constraints || []).find((each) => each.metric === metric && !kept.includes(each));
    const made = field(`/constraints/${metric}`, { type: "number", description: metric === "memory_mb" ? "Estimate, in training." : "" }, known?.max);
    parts.open.append(made);
    return made;
  });
  const rules = field("/rules", resolve(schema.properties.rules, schema), given.rules);
  parts.more.append(rules);
  if (kept.length) parts.open.append(Object.assign(document.createElement("p"), { className: "muted", textContent: `Kept as before: limits on ${kept.map((each) => each.metric).join(", ")}.` }));
  return { parts, read: () => ({
    objectives: also.value === "kept" ? given.objectives : [{ metric: score() }, ...(also.value ? [{ metric: also.value }] : [])],
    rules: rules.read() ?? [],
    constraints: [...limits.filter((each) => each.read() !== undefined).map((each) => ({ metric: each.dataset.pointer.split("/").pop(), max: each.read() })), ...kept],
  }) };
}

// Builds every card; the answer reads the whole request.
function build(schema, { spaces, strategies, recipes, datasets, given, usual }) {
  const sub = (name) => ({ ...schema.$defs[name], $defs: schema.$defs });
  const top = (name) => field(`/${name}`, resolve(schema.properties[name], schema), given[name]);

  const data = card("#form-data");
  const [name, seed, reuse] = ["name", "seed", "reuse"].map(top);
  const usable = datasets.filter((item) => !item.problem).map((item) => ({
    name: item.name, summary: `${item.info.train.toLocaleString()} + ${item.info.test.toLocaleString()} images of ${item.info.input_shape.join("×")}, ${item.info.classes} classes${taskOf(item) === "classification" ? "" : `, for ${taskOf(item)}`}`,
  }));
  const dataset = chooser("/dataset", "Data set", usable, { chosen: given.dataset?.name, into: data.open });
  data.open.append(name);
  const split = new Fields("/dataset", sub("DatasetSpec"), { into: data.more, values: given.dataset });
  const wanted = goal(given, schema, () => SCORES[taskOf(datasets.find((item) => item.name === dataset.read().name))]);
  wanted.parts.more.append(reuse, seed);

  const plain = (id, pointer, title, items, chosen, was) => {
    const parts = card(id);
    parts.more.dataset.alone = "true";
    return chooser(pointer, title, items, { chosen, into: parts.open, options: parts.more, given: was });
  };
  const space = plain("#form-space", "/space", "Space", spaces, given.space?.name, given.space);
  const strategy = plain("#form-strategy", "/strategy", "Strategy", strategies, given.strategy?.name ?? usual.strategy, given.strategy);

  const money = card("#form-budget");
  const part = (key, type, options) => new Fields(`/${key}`, sub(type), { values: given[key], into: money.open, ...options });
  const budget = part("budget", "BudgetSpec", {});
  const scheduler = part("scheduler", "SchedulerSpec", { skip: [], open: ["max_epochs", "name"], more: money.more });
  const finalists = part("finalists", "FinalistSpec", { open: ["top_k"], more: money.more });
  const resources = part("resources", "ResourceSpec", { into: grid(money.details, "Resources for one candidate") });

  const training = card("#form-recipe");
  const union = (key) => {
    const { items, usual: first } = variants(schema, key);
    return chooser(`/recipe/${key}`, titled(key), items, { chosen: given.recipe?.[key]?.name ?? first, into: training.open, options: grid(training.details, titled(key)), given: given.recipe?.[key] });
  };
  const published = select([["", "as set below"], ...recipes.map((each) => [each.name, each.name.replace("_", " ")])], "");
  const told = labelled("/recipe/name", "Published recipe", published, "");
  training.open.append(told);
  const recipe = new Fields("/recipe", sub("Recipe"), { into: training.open, open: ["batch_size", "augmentation"], more: training.more, values: given.recipe });
  const [optimizer, schedule] = ["optimizer", "schedule"].map(union);
  published.addEventListener("change", () => {
    $("small", told).textContent = recipes.find((each) => each.name === published.value)?.summary ?? "";
    for (const each of [...training.open.children, training.details]) if (each !== told) each.hidden = published.value !== "";
  });
  return () => ({
    name: name.read() ?? "", dataset: { ...split.read(), ...dataset.read() }, space: space.read(), ...wanted.read(), strategy: strategy.read(),
    scheduler: scheduler.read(), recipe: published.value ? { name: published.value } : { ...recipe.read(), optimizer: optimizer.read(), schedule: schedule.read() },
    budget: budget.read(), resources: resources.read(), finalists: finalists.read(), reuse: reuse.read(), seed: seed.read(),
    ...(given.evaluator && given.evaluator.name !== "train" ? { evaluator: given.evaluator } : {}),
  });
}

// -- errors at their fields ----------------------------------------------------------------------------------------

// The field that a JSON pointer means: itself, one above it, or, for an error of a whole object, one that the text names.
function fieldFor(form, { pointer = "", detail = "" }, body) {
  const parts = pointer.split("/");
  if (parts[1] === "constraints" && parts[2]) parts[2] = body.constraints[Number(parts[2])]?.metric ?? "";
  const fields = $$("[data-pointer]", form);
  for (let length = parts.length; length > 1; length -= 1) {
    const place = parts.slice(0, length).join("/");
    const inside = fields.filter((each) => each.dataset.pointer.startsWith(`${place}/`));
    const named = inside.find((each) => detail.includes(each.dataset.pointer.split("/").pop()));
    const exact = fields.find((each) => each.dataset.pointer === place);
    if (exact || named || inside.length) return exact && !(named && length === parts.length) ? exact : named ?? inside[0];
  }
  return null;
}

function refuse(form, error, body) {
  const box = $("#problem");
  box.hidden = false;
  const marked = [];
  for (const item of error.errors || []) {
    const bad = fieldFor(form, item, body);
    if (!bad) continue;
    bad.classList.add("bad");
    const told = Object.assign(document.createElement("small"), { className: "told", textContent: item.detail.replace(`${item.pointer}: `, "") });
    bad.append(told);
    for (let up = bad.closest("details"); up; up = up.parentElement.closest("details")) up.open = true;
    marked.push(bad);
  }
  box.textContent = marked.length ? `${marked.length === 1 ? "One field needs" : `${marked.length} fields need`} another value: ${error.message}` : error.message;
  marked[0]?.scrollIntoView({ block: "center" });
  $("input, select", marked[0] ?? document.createElement("div"))?.focus({ preventScroll: true });
}

function clear(form) {
  $("#problem").hidden = true;
  $$(".told", form).forEach((told) => told.remove());
  $$(".bad", form).forEach((label) => label.classList.remove("bad"));
}

const ruled = (rules) => Object.entries(rules || {}).map(([name, share]) => ` ${Math.round(share * 100)} % keep ${name.replaceAll("_", " ")}.`).join("");

const taken = ({ steps, few_steps: few }) => (steps === null ? "" : ` A candidate takes ${steps.toLocaleString()} steps of its optimiser${few ? ": that may be too few to learn anything; ask for smaller batches, or more epochs" : ""}.`);

// What a dry run says: how many samples there are, what they cost, and how long each would train.
function outlook(made) {
  const found = made.outlook;
  const size = found.size.exact ? found.size.estimate.toLocaleString() : `about ${Number(found.size.estimate.toPrecision(2)).toLocaleString()}`;
  const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
  const cells = (row, tag) => row.map((text, i) => `<${tag}${i ? ' class="number"' : ""}>${text}</${tag}>`).join("");
  const rows = Object.entries(found.costs).map(([name, r]) => `<tr>${cells([COSTS[name] ?? name, short.format(r.least), short.format(r.median), short.format(r.most)], "td")}</tr>`);
  return `<p>${size} different samples; ${Math.round(found.feasible_share * 100)} % keep the limits.${ruled(found.rules)}${taken(made)}</p>
    <table class="plain"><tr>${cells(["cost", "least", "median", "most"], "th")}</tr>${rows.join("")}</table>`;
}

async function newSearch(form) {
  const paths = ["/v1/search-schema", "/v1/spaces", "/v1/strategies", "/v1/recipes", "/v1/datasets"];
  const [schema, spaces, strategies, recipes, datasets] = await Promise.all(paths.map((path) => api("GET", path)));
  const { given, usual } = JSON.parse($("#template").textContent);
  const request = build(schema, { spaces, strategies, recipes, datasets, given, usual });
  const show = () => { $("#json").textContent = JSON.stringify(request(), null, 2); };
  form.addEventListener("input", show);
  form.addEventListener("change", show);
  show();

  const buttons = $$(".actions button", form);
  const send = async (path, then) => {
    const body = request();
    clear(form);
    buttons.forEach((button) => { button.disabled = true; });
    try { then(await api("POST", path, body)); } catch (error) { refuse(form, error, body); }
    buttons.forEach((button) => { button.disabled = false; });
  };
  $("#preview").addEventListener("click", () => send("/v1/searches?dry_run=true", (made) => { $("#outlook").innerHTML = outlook(made); }));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send("/v1/searches", (made) => { location.href = `/searches/${made.id}`; });
  });
  buttons.forEach((button) => { button.disabled = false; });
  form.dataset.ready = "true";
}

document.addEventListener("DOMContentLoaded", () => {
  const form = $("#new");
  newSearch(form).catch((error) => {
    $$(".loading", form).forEach((line) => { line.textContent = "The catalogue did not load."; });
    Object.assign($("#problem"), { hidden: false, textContent: error.message });
  });
});
