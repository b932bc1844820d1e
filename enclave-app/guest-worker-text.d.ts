/** The bundled text of guest-worker.ts, made by the enclave's build. */
declare module "camerata:guest-worker" {
  const text: string;
  export default text;
}
