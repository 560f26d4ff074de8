// A place to drop a file on. What is too large or of another type is refused before it is sent.

function refusal(file, suffixes, largest, wanted) {
  const name = file.name.toLowerCase();
  if (!suffixes.some((suffix) => name.endsWith(suffix))) {
    return `${file.name}: is ${wanted}`;
  }
  if (file.size > largest) {
    const megabytes = (bytes) => Math.round(bytes / 2 ** 20);
    return (
      `${file.name}: has ${megabytes(file.size)} MB, at most ${megabytes(largest)} MB are taken here; ` +
      "make it smaller, or use the command `colorlib colorize`"
    );
  }
  return file.size ? "" : `${file.name}: is empty; choose another file`;
}

// Ends early when a newer upload has begun, which the id of the newest one says.
async function send(model, file, id, newest) {
  model.send({ kind: "begin", id, name: file.name, size: file.size });
  const part = model.get("part");
  for (let start = 0; start < file.size; start += part) {
    const buffer = await file.slice(start, start + part).arrayBuffer();
    if (newest() !== id) return;
    model.send({ kind: "part", id }, undefined, [buffer]);
  }
}

function render({ model, el }) {
  el.classList.add("cl-upload");
  const label = document.createElement("label");
  const text = document.createElement("span");
  const input = document.createElement("input");
  const message = document.createElement("p");
  text.textContent = model.get("label");
  input.type = "file";
  input.accept = model.get("suffixes").join(",");
  message.setAttribute("role", "status");
  label.append(text, input);
  el.append(label, message);

  // As a message, not as state: state waits for its turn, and could come after the next photograph.
  const complain = (words) => {
    message.textContent = words;
    message.classList.add("wrong");
    model.send({ kind: "refused", words });
  };
  const show = () => {
    message.textContent = model.get("message");
    message.classList.toggle("wrong", model.get("wrong"));
  };
  let newest = "";
  const take = async (file) => {
    if (!file) return;
    const id = (newest = `${Date.now()}-${Math.random()}`); // no other page has it either
    const why = refusal(file, model.get("suffixes"), model.get("largest"), model.get("wanted"));
    if (why) return complain(why);
    try {
      await send(model, file, id, () => newest);
    } catch (error) {
      if (newest === id) complain(`${file.name}: can't be read (${error.message}); try again`);
    }
  };

  input.addEventListener("change", () => {
    take(input.files[0]);
    input.value = ""; // so that the same file can be chosen again
  });
  for (const kind of ["dragover", "dragleave", "drop"]) {
    label.addEventListener(kind, (event) => {
      event.preventDefault();
      event.stopPropagation();
      label.classList.toggle("over", kind === "dragover");
      if (kind === "drop") take(event.dataTransfer.files[0]);
    });
  }
  model.on("change:message", show);
  model.on("change:wrong", show);
  show();
  return () => {
    model.off("change:message", show);
    model.off("change:wrong", show);
  };
}

export default { render };
