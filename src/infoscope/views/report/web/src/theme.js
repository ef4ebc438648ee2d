// Light or dark: the system's choice unless the reader makes one, which this browser keeps.

const KEY = "infoscope-theme";
const NEXT = { auto: "dark", dark: "light", light: "auto" };

// What the reader chose last, before anything is drawn, so that a dark page does not begin with a white flash.
export function recall() {
  try {
    const name = localStorage.getItem(KEY);
    if (name) document.documentElement.dataset.theme = name;
  } catch {
    // a browser may refuse storage to a file
  }
}

export function theme(button, changed) {
  const root = document.documentElement;
  const show = (name) => {
    if (name === "auto") delete root.dataset.theme;
    else root.dataset.theme = name;
    button.textContent = `Theme: ${name}`;
  };
  show(root.dataset.theme ?? "auto");
  button.hidden = false;
  button.addEventListener("click", () => {
    const name = NEXT[root.dataset.theme ?? "auto"];
    show(name);
    try {
      if (name === "auto") localStorage.removeItem(KEY);
      else localStorage.setItem(KEY, name);
    } catch {
      // a browser may refuse storage to a file
    }
    changed();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
}
