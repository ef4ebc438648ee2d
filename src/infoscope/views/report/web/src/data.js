// The run's data. A page opened from a file may not fetch, so every piece is a script that calls infoscope.put.

const arrived = new Map();
const asked = new Map();

export function put(name, value) {
  arrived.set(name, value);
}

export function load(name) {
  if (!asked.has(name)) {
    asked.set(
      name,
      new Promise((resolve, reject) => {
        if (arrived.has(name)) return resolve(arrived.get(name));
        const script = document.createElement("script");
        script.src = `data/${name}.js`;
        script.onload = () => {
          script.remove();
          if (arrived.has(name)) resolve(arrived.get(name));
          else reject(new Error(`data/${name}.js holds something else`));
        };
        script.onerror = () => {
          asked.delete(name);
          script.remove();
          reject(new Error(`data/${name}.js cannot be read; is the whole folder here?`));
        };
        document.head.append(script);
      }),
    );
  }
  return asked.get(name);
}

export function bytes(text) {
  const binary = atob(text);
  const out = new Uint8Array(binary.length);
  for (let place = 0; place < binary.length; place += 1) out[place] = binary.charCodeAt(place);
  return out;
}

const columns = new Map();

// A column as numbers, a row a feature; NaN where there is no value.
export async function column(name) {
  if (!columns.has(name)) {
    const packed = await load(`columns/${name}`);
    const buffer = bytes(packed.data).buffer;
    columns.set(name, packed.type === "u4" ? new Uint32Array(buffer) : new Float32Array(buffer));
  }
  return columns.get(name);
}

export async function feature(run, number) {
  const chunk = Math.floor(number / run.chunk);
  return (await load(`features/${chunk}`))[number - chunk * run.chunk];
}

export const NO_IMAGE = 0xffffffff;

export function picturePath(image) {
  return `images/${Math.floor(image / 1000)}/${image}.webp`;
}
