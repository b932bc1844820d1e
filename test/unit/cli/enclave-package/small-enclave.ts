/** A program small enough to be bundled many times; it takes in the guest's text as the real one does. */
import guestWorker from "camerata:guest-worker";

process.exitCode = guestWorker.length > 0 ? 0 : 1;
