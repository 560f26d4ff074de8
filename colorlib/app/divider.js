// Two versions of a picture, a divider to drag, a point to choose by a click or the arrow keys, and
// colored marks to drag, or to move and remove by the keyboard.

const STEP = { ArrowLeft: [-0.02, 0], ArrowRight: [0.02, 0], ArrowUp: [0, -0.02], ArrowDown: [0, 0.02] };

function within(value) {
  return Math.min(1, Math.max(0, value));
}

function make(parent, tag, className) {
  const element = document.createElement(tag);
  element.className = className;
  parent.append(element);
  return element;
}

// Swap the picture only when the new one is decoded: no flicker while a slider moves.
function show(image, bytes) {
  if (!bytes || !bytes.byteLength) return;
  const url = URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" }));
  const next = new Image();
  next.onload = () => {
    const old = image.src;
    image.src = url;
    if (old.startsWith("blob:")) setTimeout(() => URL.revokeObjectURL(old), 1000);
  };
  next.onerror = () => URL.revokeObjectURL(url);
  next.src = url;
}

function render({ model, el }) {
  el.classList.add("cl-divider");
  const stage = make(el, "div", "cl-stage");
  const after = make(stage, "img", "cl-after");
  const before = make(stage, "img", "cl-before");
  const layer = make(stage, "div", "cl-marks");
  const spot = make(stage, "div", "cl-spot");
  const handle = make(stage, "div", "cl-handle");
  for (const image of [after, before]) image.draggable = false;
  before.alt = "the photograph in grey";
  after.alt = "the photograph, colored";
  make(stage, "span", "cl-tag left").textContent = "grey";
  make(stage, "span", "cl-tag right").textContent = "colored";
  handle.tabIndex = 0;
  handle.setAttribute("role", "slider");
  handle.setAttribute("aria-label", "Divider between grey and colored");
  handle.setAttribute("aria-valuemin", 0);
  handle.setAttribute("aria-valuemax", 100);
  make(handle, "i", "");
  spot.tabIndex = 0;
  spot.setAttribute("role", "button");
  spot.setAttribute("aria-label", "Chosen point; move it with the arrow keys");

  const place = () => {
    const position = model.get("position");
    before.style.clipPath = `inset(0 ${(1 - position) * 100}% 0 0)`;
    handle.style.left = `${position * 100}%`;
    handle.setAttribute("aria-valuenow", Math.round(position * 100));
    stage.classList.toggle("near-left", position < 0.12);
    stage.classList.toggle("near-right", position > 0.85);
    const [x, y] = model.get("point");
    spot.style.left = `${x * 100}%`;
    spot.style.top = `${y * 100}%`;
    const chosen = (mark) => mark[0] === x && mark[1] === y;
    model.get("marks").forEach((mark, i) => layer.children[i]?.classList.toggle("chosen", chosen(mark)));
  };
  const shape = () => {
    const [width, height] = [model.get("width"), model.get("height")];
    stage.style.setProperty("--ratio", Math.min(8, Math.max(1 / 8, width / height)));
  };
  const at = (event) => {
    const box = stage.getBoundingClientRect();
    return [within((event.clientX - box.left) / box.width), within((event.clientY - box.top) / box.height)];
  };
  const move = (name, value) => {
    model.set(name, value);
    model.save_changes();
    place();
  };

  const marks = () => model.get("marks").map((mark) => [...mark]);
  const put = (i, [x, y]) => {
    const changed = marks();
    changed[i] = [x, y, changed[i][2]];
    model.set("marks", changed);
    move("point", [x, y]);
  };
  const take = (i) => {
    model.set("marks", marks().filter((_, k) => k !== i));
    model.save_changes();
  };
  const mark = ([x, y, color], i) => {
    const dot = document.createElement("div");
    dot.className = "cl-mark";
    dot.tabIndex = 0;
    dot.setAttribute("role", "button");
    dot.setAttribute("aria-label", `Hint ${i + 1}, ${color}; the arrow keys move it, Delete removes it`);
    dot.style.cssText = `left: ${x * 100}%; top: ${y * 100}%; background: ${color}`;
    let held = false;
    let goal = null; // the network is asked when the mark is let go
    dot.addEventListener("pointerdown", (event) => {
      held = true;
      dot.setPointerCapture(event.pointerId);
    });
    dot.addEventListener("pointermove", (event) => {
      if (!held || !(event.movementX || event.movementY)) return;
      goal = at(event);
      [dot.style.left, dot.style.top] = goal.map((value) => `${value * 100}%`);
    });
    for (const end of ["pointerup", "pointercancel"]) {
      dot.addEventListener(end, () => {
        if (held) goal ? put(i, goal) : move("point", [x, y]);
        held = false;
      });
    }
    dot.addEventListener("click", (event) => event.stopPropagation());
    dot.addEventListener("keydown", (event) => {
      const removes = event.key === "Delete" || event.key === "Backspace";
      if (!removes && !(event.key in STEP)) return;
      event.preventDefault();
      event.stopPropagation();
      removes ? take(i) : put(i, [x, y].map((value, k) => within(value + STEP[event.key][k] / 4)));
    });
    return dot;
  };
  const draw = () => {
    const focused = [...layer.children].indexOf(document.activeElement);
    layer.replaceChildren(...(model.get("marked") ? model.get("marks").map(mark) : []));
    place();
    if (focused >= 0) (layer.children[focused] || spot).focus();
  };

  let dragging = false;
  handle.addEventListener("pointerdown", (event) => {
    dragging = true;
    handle.setPointerCapture(event.pointerId);
    event.stopPropagation();
  });
  handle.addEventListener("pointermove", (event) => {
    if (dragging) move("position", at(event)[0]);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    handle.addEventListener(end, () => {
      dragging = false;
    });
  }
  handle.addEventListener("click", (event) => event.stopPropagation());
  handle.addEventListener("keydown", (event) => {
    if (!(event.key in STEP)) return;
    event.preventDefault();
    event.stopPropagation();
    const [right, down] = STEP[event.key];
    move("position", within(model.get("position") + right - down));
  });
  stage.addEventListener("click", (event) => move("point", at(event)));
  spot.addEventListener("keydown", (event) => {
    if (!(event.key in STEP)) return;
    event.preventDefault();
    event.stopPropagation();
    move("point", model.get("point").map((value, i) => within(value + STEP[event.key][i])));
  });

  const update = {
    "change:position": place,
    "change:point": place,
    "change:marks": draw,
    "change:marked": draw,
    "change:width": shape,
    "change:height": shape,
    "change:before": () => show(before, model.get("before")),
    "change:after": () => show(after, model.get("after")),
  };
  for (const [event, callback] of Object.entries(update)) {
    model.on(event, callback);
    callback();
  }
  return () => {
    for (const [event, callback] of Object.entries(update)) model.off(event, callback);
    for (const image of [before, after]) URL.revokeObjectURL(image.src);
  };
}

export default { render };
