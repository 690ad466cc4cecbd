// Asks this server from a script: with the token that shows that the page is ours.

const token = document.querySelector('meta[name="csrf-token"]').content;

/** Send a form or a JSON value; resolves to what the server answers, throws an Error with its sentence. */
export async function post(url, body, method = "POST") {
  const isForm = body instanceof FormData || body instanceof URLSearchParams;
  const headers = { "X-CSRF-Token": token, Accept: "application/json" };
  if (!isForm) headers["Content-Type"] = "application/json";
  return answer(await fetch(url, { method, headers, body: isForm ? body : JSON.stringify(body ?? {}) }));
}

/** Read JSON; throws an Error with the server's sentence. */
export async function read(url) {
  return answer(await fetch(url, { headers: { Accept: "application/json" } }));
}

async function answer(response) {
  const said = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(said.detail ?? `The server answered ${response.status}.`);
  return said;
}
