// Colors to choose from, and any other.

function render({ model, el }) {
  el.classList.add("cl-palette");
  const suggested = document.createElement("div");
  const label = document.createElement("label");
  const other = document.createElement("input");
  suggested.setAttribute("role", "group");
  suggested.setAttribute("aria-label", "Suggested colors");
  other.type = "color";
  label.append("Another color", other);
  el.append(suggested, label);

  // As a message, not as state: the same color can be chosen again, for another point.
  const choose = (color) => model.send({ kind: "color", color });
  const show = () => {
    const buttons = model.get("colors").map((color) => {
      const button = document.createElement("button");
      button.type = "button";
      button.title = color;
      button.setAttribute("aria-label", `Use ${color} here`);
      button.style.background = color;
      button.addEventListener("click", () => choose(color));
      return button;
    });
    suggested.replaceChildren(...buttons);
    if (buttons.length) other.value = model.get("colors")[0];
  };
  other.addEventListener("change", () => choose(other.value));
  model.on("change:colors", show);
  show();
  return () => model.off("change:colors", show);
}

export default { render };
