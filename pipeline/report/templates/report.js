// before | after: a slider that uncovers, a button that alternates; both are form controls, so keys work by themselves
for (const figure of document.querySelectorAll("figure.pair")) {
  const frame = figure.querySelector(".compare"), [slider, button] = figure.querySelectorAll("input, button");
  const said = figure.querySelector("output");
  let timer = 0;
  const say = () => {
    const flick = frame.classList.contains("flick");
    said.textContent = flick ? (frame.classList.contains("first") ? "before" : "after") : "before | after";
  };
  slider.addEventListener("input", () => frame.style.setProperty("--cut", slider.value + "%"));
  button.addEventListener("click", () => {
    const on = frame.classList.toggle("flick");
    button.setAttribute("aria-pressed", on);
    frame.classList.toggle("first", on);
    clearInterval(timer);
    if (on) timer = setInterval(() => { frame.classList.toggle("first"); say(); }, 700);
    say();
  });
}
