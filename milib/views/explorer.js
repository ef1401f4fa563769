// An explorer in the browser: controls, pictures and numbers. Python draws; this asks and shows.

const SETTABLE = {
  // How a control is made, and how its place among the values is read and set.
  slider: (about) => ranged("range", about),
  number: (about) => ranged("number", about),
  menu: (about) => listed(1, about),
  list: (about) => listed(6, about),
};

function make(tag, properties = {}, children = []) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function ranged(type, about) {
  const last = about.labels.length - 1;
  const field = make("input", { type, min: 0, max: last, step: 1 });
  const get = () => Math.min(Math.max(Math.round(field.valueAsNumber || 0), 0), last);
  return { field, get, set: (place) => (field.value = place) };
}

function listed(size, about) {
  const options = about.labels.map((text) => make("option", { text }));
  const field = make("select", { size }, options);
  const set = (place) => (field.selectedIndex = place);
  return { field, get: () => field.selectedIndex, set };
}

// A control in a row of its own: its name, itself, and the value where it shows none.
function row(about, id, released) {
  const control = SETTABLE[about.kind](about);
  const { field } = control;
  Object.assign(field, { id, title: about.hint });
  const value = make("output", { htmlFor: id });
  const tell = () => {
    if (about.kind !== "slider") return;
    value.textContent = about.labels[control.get()];
    field.setAttribute("aria-valuetext", value.textContent);
  };
  field.addEventListener("input", tell);
  field.addEventListener("change", () => released(control.get()));
  const label = make("label", { htmlFor: id, title: about.hint, textContent: about.title });
  const className = `milib-control milib-${about.kind}`;
  const parts = make("div", { className }, [label, field, value]);
  return { parts, set: (place) => (control.set(place), tell()) };
}

function render({ model, el }) {
  // Each explorer of a page has a copy of this module: nothing here could count them.
  const id = `milib-explorer-${Math.random().toString(36).slice(2)}`;
  const abouts = model.get("controls");
  const chosen = { ...model.get("chosen") };
  let busy = false;

  const rows = {};
  for (const [name, about] of Object.entries(abouts)) {
    rows[name] = row(about, `${id}-${name}`, (place) => {
      chosen[name] = place;
      show();
      ask();
    });
  }
  const reset = make("button", { type: "button", textContent: "Reset" });
  reset.title = "Every control as it was at first";
  const status = make("span", { className: "milib-status" });
  status.setAttribute("role", "status");
  const foot = make("div", { className: "milib-foot" }, [reset, status]);
  const parts = Object.values(rows).map((each) => each.parts);
  const controls = make("div", { className: "milib-controls" }, [...parts, foot]);
  const images = model.get("pictures").map(() => make("img"));
  const numbers = make("pre");
  numbers.setAttribute("aria-live", "polite");
  const shown = make("div", { className: "milib-shown" }, [...images, numbers]);
  el.classList.add("milib-explorer", "milib-live");
  el.append(controls, shown);

  function show() {
    for (const [name, each] of Object.entries(rows)) each.set(chosen[name]);
  }

  function paint() {
    model.get("pictures").forEach(({ png, alt, width }, number) => {
      const image = images[number];
      const before = image.src;
      image.src = URL.createObjectURL(new Blob([png], { type: "image/png" }));
      if (before) URL.revokeObjectURL(before);
      Object.assign(image, { alt, width });
    });
    numbers.textContent = model.get("numbers");
  }

  function wait(whether) {
    busy = whether;
    el.setAttribute("aria-busy", busy);
    status.textContent = busy ? "Computing …" : "";
  }

  // One question at a time: what is moved meanwhile is asked afterwards, all at once.
  function ask() {
    const asked = model.get("chosen");
    if (busy || Object.keys(chosen).every((name) => chosen[name] === asked[name])) return;
    wait(true);
    model.set("chosen", { ...chosen });
    model.save_changes();
  }

  function drawn() {
    paint();
    wait(false);
    ask();
  }

  function followed() {
    Object.assign(chosen, model.get("chosen"));
    show();
  }

  reset.addEventListener("click", () => {
    for (const [name, about] of Object.entries(abouts)) chosen[name] = about.start;
    show();
    ask();
  });
  images.forEach((image, number) => {
    if (!model.get("clickable")) return;
    image.classList.add("milib-clickable");
    image.addEventListener("click", (event) => {
      if (busy) return;
      const { left, top, width, height } = image.getBoundingClientRect();
      const across = (event.clientX - left) / width;
      const down = (event.clientY - top) / height;
      wait(true);
      model.send({ picture: number, across, down });
    });
  });
  // The notebook's shortcuts would take arrows and letters; saving stays its own.
  el.addEventListener("keydown", (event) => {
    const saves = (event.ctrlKey || event.metaKey) && event.key === "s";
    if (!saves) event.stopPropagation();
  });
  model.on("change:drawn", drawn);
  model.on("change:chosen", followed);
  show();
  paint();
  return () => {
    model.off("change:drawn", drawn);
    model.off("change:chosen", followed);
    for (const image of images) URL.revokeObjectURL(image.src);
  };
}

export default { render };
