// A button; its file is made when it is pressed, and handed to the browser when it has come.

function render({ model, el }) {
  el.classList.add("cl-download");
  const button = document.createElement("button");
  const message = document.createElement("p");
  button.type = "button";
  message.setAttribute("role", "status");
  el.append(button, message);
  let waiting = false;

  const show = () => {
    button.textContent = waiting ? model.get("working") : model.get("label");
    button.disabled = waiting || model.get("disabled");
    message.textContent = model.get("message");
  };
  const hand = (content, buffers) => {
    waiting = false;
    if (content.kind === "file") {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([buffers[0]]));
      link.download = content.name;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    }
    show();
  };
  button.addEventListener("click", () => {
    waiting = true;
    show();
    model.send({ kind: "want" });
  });
  const events = ["change:label", "change:message", "change:disabled"];
  for (const event of events) model.on(event, show);
  model.on("msg:custom", hand);
  show();
  return () => {
    for (const event of events) model.off(event, show);
    model.off("msg:custom", hand);
  };
}

export default { render };
