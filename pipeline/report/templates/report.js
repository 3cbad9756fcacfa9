// before | after: a slider that uncovers, a button that alternates; both are form controls, so keys work by themselves
function operate(figure) {
  const frame = figure.querySelector(".compare"), slider = figure.querySelector("input"), button = figure.querySelector(".flicker");
  const said = figure.querySelector("output");
  let timer = 0;
  const say = () => {
    const flick = frame.classList.contains("flick");
    said.textContent = flick ? (frame.classList.contains("first") ? "before" : "after") : "before | after";
  };
  const uncover = () => frame.style.setProperty("--cut", slider.value + "%");
  slider.addEventListener("input", uncover);
  uncover();
  button.addEventListener("click", () => {
    const on = frame.classList.toggle("flick");
    button.setAttribute("aria-pressed", on);
    frame.classList.toggle("first", on);
    clearInterval(timer);
    if (on) timer = setInterval(() => { if (!frame.isConnected) clearInterval(timer); frame.classList.toggle("first"); say(); }, 700);
    say();
  });
}
document.querySelectorAll("figure.pair").forEach(operate);

// a click, or the button on a picture, shows it as large as the window; the browser closes a dialog with Esc
const dialog = document.querySelector("dialog");
for (const zoom of document.querySelectorAll("button.zoom")) {
  const figure = zoom.closest("figure");
  const enlarge = () => {
    const large = figure.cloneNode(true), compare = large.querySelector(".compare");
    large.querySelector(".zoom").remove();
    if (compare) {
      compare.classList.remove("flick", "first");
      large.querySelector(".flicker").setAttribute("aria-pressed", false);
      large.querySelector("output").textContent = "before | after";
      large.querySelector("input").value = figure.querySelector("input").value;
      operate(large);
    }
    dialog.querySelector("div").replaceChildren(large);
    dialog.showModal();
  };
  zoom.addEventListener("click", enlarge);
  figure.querySelector(".frame").addEventListener("click", enlarge);
}
// the event comes later: by then another picture may be shown
const empty = () => { if (!dialog.open) dialog.querySelector("div").replaceChildren(); };
const shut = () => { dialog.close(); empty(); };
dialog.querySelector(".close").addEventListener("click", shut);
dialog.addEventListener("click", event => { if (event.target === dialog) shut(); });
dialog.addEventListener("close", empty);
